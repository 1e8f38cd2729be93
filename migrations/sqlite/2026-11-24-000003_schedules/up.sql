-- What a schedule needs beside django-carrot's columns. Each is nullable or has a default, so that
-- Django's inserts, which name their own columns, keep working.
-- that of its messages
ALTER TABLE carrot_scheduledtask ADD COLUMN priority integer NOT NULL DEFAULT 0;
-- a cron line, which then counts in the interval's place
ALTER TABLE carrot_scheduledtask ADD COLUMN cron varchar(500);
-- an IANA name, for the cron line; UTC without
ALTER TABLE carrot_scheduledtask ADD COLUMN time_zone varchar(100);
-- what becomes of missed occurrences: run_once, run_all or skip
ALTER TABLE carrot_scheduledtask ADD COLUMN missed varchar(20) NOT NULL DEFAULT 'run_once';
-- allow, or skip an occurrence while the message of the one before is not finished
ALTER TABLE carrot_scheduledtask ADD COLUMN overlap varchar(20) NOT NULL DEFAULT 'allow';
-- where an interval is counted from
ALTER TABLE carrot_scheduledtask ADD COLUMN anchor datetime;
-- the next occurrence, and the last one that has a message
ALTER TABLE carrot_scheduledtask ADD COLUMN next_run datetime;
ALTER TABLE carrot_scheduledtask ADD COLUMN last_run datetime;
-- the timetable that the next occurrence was reckoned from: another than the row's now is to be
-- reckoned anew, whoever has changed the row
ALTER TABLE carrot_scheduledtask ADD COLUMN planned_for varchar(1000);
-- why it does not run
ALTER TABLE carrot_scheduledtask ADD COLUMN refusal text;
