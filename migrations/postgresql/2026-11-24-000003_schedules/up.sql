-- A schedule's columns besides django-carrot's. Each is nullable or has a default, so that
-- Django's inserts, which name their own columns, keep working.
ALTER TABLE carrot_scheduledtask
    -- the priority of its messages
    ADD COLUMN IF NOT EXISTS priority integer NOT NULL DEFAULT 0,
    -- a cron line, which replaces the interval
    ADD COLUMN IF NOT EXISTS cron varchar(500),
    -- the cron line's time zone, an IANA name; NULL: UTC
    ADD COLUMN IF NOT EXISTS time_zone varchar(100),
    -- what to do about missed occurrences: run_once, run_all or skip
    ADD COLUMN IF NOT EXISTS missed varchar(20) NOT NULL DEFAULT 'run_once',
    -- allow, or skip: no occurrence while the previous one's message is not finished
    ADD COLUMN IF NOT EXISTS overlap varchar(20) NOT NULL DEFAULT 'allow',
    -- the time from which an interval is counted
    ADD COLUMN IF NOT EXISTS anchor timestamptz,
    -- the next occurrence, and the last one that has a message
    ADD COLUMN IF NOT EXISTS next_run timestamptz,
    ADD COLUMN IF NOT EXISTS last_run timestamptz,
    -- the timetable that the next occurrence was reckoned from: another than the row's now is to be
    -- reckoned anew, whoever has changed the row
    ADD COLUMN IF NOT EXISTS planned_for varchar(1000),
    -- why it does not run
    ADD COLUMN IF NOT EXISTS refusal text;
