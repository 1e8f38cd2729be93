-- The schedule's occurrence that a message belongs to. Nullable, so that Django's inserts, which name
-- their own columns, keep working.
-- carrot_scheduledtask.id
ALTER TABLE carrot_messagelog ADD COLUMN schedule_id bigint;
-- the occurrence; NULL for a message outside the timetable
ALTER TABLE carrot_messagelog ADD COLUMN planned_time datetime;
