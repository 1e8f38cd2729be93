-- A schedule's columns besides django-carrot's. Each is nullable or has a default, so that
-- Django's inserts, which name their own columns, keep working. MySQL has no transactions for this and no IF NOT EXISTS, so each step
-- checks whether it was done.
-- the priority of its messages
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'priority'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN priority integer NOT NULL DEFAULT 0', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- a cron line, which replaces the interval
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'cron'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN cron varchar(500)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- the cron line's time zone, an IANA name; NULL: UTC
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'time_zone'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN time_zone varchar(100)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- what to do about missed occurrences: run_once, run_all or skip
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'missed'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN missed varchar(20) NOT NULL DEFAULT ''run_once''', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- allow, or skip: no occurrence while the previous one's message is not finished
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'overlap'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN overlap varchar(20) NOT NULL DEFAULT ''allow''', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- the time from which an interval is counted
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'anchor'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN anchor datetime(6)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- the next occurrence
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'next_run'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN next_run datetime(6)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- the last one that has a message
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'last_run'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN last_run datetime(6)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- the timetable that the next occurrence was computed from; bytes, since a collation may take two for one
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'planned_for'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN planned_for varbinary(4000)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- why it does not run
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'refusal'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN refusal longtext', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- whether that is still the row's timetable, whoever changed the row
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'is_planned'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN is_planned tinyint(1) GENERATED ALWAYS AS
        (planned_for <=> CONCAT(interval_type, '' '', interval_count, '' '', COALESCE(time_zone, ''''), '' '', COALESCE(cron, ''''))) VIRTUAL', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
