-- All messages of occurrences that were planned before this time are finished, so the check for an overlap
-- need not read them; NULL: unknown. Maintained where overlap is skip.
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'unfinished_from'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN unfinished_from datetime(6)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
