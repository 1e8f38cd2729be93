-- A put-off message, whose run could not begin, waits in its row. Nullable, so that Django's inserts, which name
-- their own columns, keep working. Each step checks whether it was done.
-- In an old row format the longest possible row is already at the limit of a row's size. More is
-- allowed only without innodb_strict_mode, which in MySQL few users may set.
SET @step = NULL /*M!100300 , SESSION innodb_strict_mode = OFF */;

-- since when its run has been put off
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'put_off_since'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN put_off_since datetime(6)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- why
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'put_off_reason'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN put_off_reason text', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
