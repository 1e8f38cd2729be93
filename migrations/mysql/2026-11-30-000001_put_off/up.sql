-- A message whose run could not begin waits in its row. Nullable, so that Django's inserts, which name
-- their own columns, keep working. Each step asks whether it was done.
-- A table of an old row format is at the limit of what a row may have if all its texts are long, and
-- may go beyond it only where that is not taken strictly. MySQL lets few set this.
SET @step = NULL /*M!100300 , SESSION innodb_strict_mode = OFF */;

-- since when its run is put off
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
