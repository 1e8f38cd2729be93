-- A schedule's columns besides django-carrot's. Each is nullable or has a default, so that
-- Django's inserts, which name their own columns, keep working.
-- the priority of its messages
ALTER TABLE carrot_scheduledtask ADD COLUMN priority integer NOT NULL DEFAULT 0;
-- a cron line, which replaces the interval
ALTER TABLE carrot_scheduledtask ADD COLUMN cron varchar(500);
-- the cron line's time zone, an IANA name; NULL: UTC
ALTER TABLE carrot_scheduledtask ADD COLUMN time_zone varchar(100);
-- what to do about missed occurrences: run_once, run_all or skip
ALTER TABLE carrot_scheduledtask ADD COLUMN missed varchar(20) NOT NULL DEFAULT 'run_once';
-- allow, or skip: no occurrence while the previous one's message is not finished
ALTER TABLE carrot_scheduledtask ADD COLUMN overlap varchar(20) NOT NULL DEFAULT 'allow';
-- the time from which an interval is counted
ALTER TABLE carrot_scheduledtask ADD COLUMN anchor datetime;
-- the next occurrence, and the last one that has a message
ALTER TABLE carrot_scheduledtask ADD COLUMN next_run datetime;
ALTER TABLE carrot_scheduledtask ADD COLUMN last_run datetime;
-- the timetable that next_run was computed from: if the row's timetable differs, whoever changed it,
-- next_run is computed again
ALTER TABLE carrot_scheduledtask ADD COLUMN planned_for varchar(1000);
-- why it does not run
ALTER TABLE carrot_scheduledtask ADD COLUMN refusal text;
