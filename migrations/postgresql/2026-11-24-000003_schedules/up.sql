-- What a schedule needs beside django-carrot's columns. Each is nullable or has a default, so that
-- Django's inserts, which name their own columns, keep working.
ALTER TABLE carrot_scheduledtask
    -- that of its messages
    ADD COLUMN IF NOT EXISTS priority integer NOT NULL DEFAULT 0,
    -- a cron line, which then counts in the interval's place
    ADD COLUMN IF NOT EXISTS cron varchar(500),
    -- an IANA name, for the cron line; UTC without
    ADD COLUMN IF NOT EXISTS time_zone varchar(100),
    -- what becomes of missed occurrences: run_once, run_all or skip
    ADD COLUMN IF NOT EXISTS missed varchar(20) NOT NULL DEFAULT 'run_once',
    -- allow, or skip an occurrence while the message of the one before is not finished
    ADD COLUMN IF NOT EXISTS overlap varchar(20) NOT NULL DEFAULT 'allow',
    -- where an interval is counted from
    ADD COLUMN IF NOT EXISTS anchor timestamptz,
    -- the next occurrence, and the last one that has a message
    ADD COLUMN IF NOT EXISTS next_run timestamptz,
    ADD COLUMN IF NOT EXISTS last_run timestamptz,
    -- the timetable that the next occurrence was reckoned from: another than the row's now is to be
    -- reckoned anew, whoever has changed the row
    ADD COLUMN IF NOT EXISTS planned_for varchar(1000),
    -- why it does not run
    ADD COLUMN IF NOT EXISTS refusal text;
