-- The schedule's occurrence that a message belongs to. Nullable, so that Django's inserts, which name
-- their own columns, keep working.
ALTER TABLE carrot_messagelog
    -- carrot_scheduledtask.id
    ADD COLUMN IF NOT EXISTS schedule_id bigint,
    -- the occurrence; NULL for a message outside the timetable
    ADD COLUMN IF NOT EXISTS planned_time timestamptz;
