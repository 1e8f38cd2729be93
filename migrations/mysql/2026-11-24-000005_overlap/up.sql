-- No message of an occurrence that was planned before this is unfinished, so that none of those need be
-- read to see whether a run would overlap; NULL: not known. Kept where overlap is skip.
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND column_name = 'unfinished_from'), 'DO 0',
    CONCAT('ALTER TABLE carrot_scheduledtask ADD COLUMN unfinished_from datetime(6)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
