DROP INDEX IF EXISTS carrot_messagelog_occurrence;
ALTER TABLE carrot_messagelog
    DROP COLUMN IF EXISTS planned_time,
    DROP COLUMN IF EXISTS schedule_id;
