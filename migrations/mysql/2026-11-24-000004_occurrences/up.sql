-- How a message knows the occurrence that it stands for. Nullable, so that Django's inserts, which name
-- their own columns, keep working. Each step asks whether it was done.
-- A table of an old row format is at the limit of what a row may have if all its texts are long, and
-- may go a few bytes beyond it only where that is not taken strictly. MySQL lets few set this.
SET @step = NULL /*M!100300 , SESSION innodb_strict_mode = OFF */;

-- carrot_scheduledtask.id
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'schedule_id'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN schedule_id bigint', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- the occurrence; NULL for a message beside the timetable
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'planned_time'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN planned_time datetime(6)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
