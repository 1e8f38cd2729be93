DROP INDEX carrot_messagelog_occurrence ON carrot_messagelog;
ALTER TABLE carrot_messagelog
    DROP COLUMN planned_time,
    DROP COLUMN schedule_id;
