-- The schedule's occurrence that a message belongs to. Nullable, so that Django's inserts, which name
-- their own columns, keep working. Each step checks whether it was done.
-- In an old row format the longest possible row is already at the limit of a row's size. A few bytes
-- more are allowed only without innodb_strict_mode, which in MySQL few users may set.
SET @step = NULL /*M!100300 , SESSION innodb_strict_mode = OFF */;

-- carrot_scheduledtask.id
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'schedule_id'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN schedule_id bigint', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- the occurrence; NULL for a message outside the timetable
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'planned_time'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN planned_time datetime(6)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
