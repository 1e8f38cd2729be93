DROP INDEX IF EXISTS carrot_messagelog_occurrence;
ALTER TABLE carrot_messagelog DROP COLUMN planned_time;
ALTER TABLE carrot_messagelog DROP COLUMN schedule_id;
