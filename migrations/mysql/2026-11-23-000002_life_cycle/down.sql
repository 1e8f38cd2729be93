-- The indexes, which `migrate` builds outside its steps, may not exist.
DROP TABLE IF EXISTS carrot_worker;
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND index_name = 'carrot_messagelog_in_progress'),
    'ALTER TABLE carrot_messagelog DROP INDEX carrot_messagelog_in_progress', 'DO 0');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND index_name = 'carrot_messagelog_pending'),
    'ALTER TABLE carrot_messagelog DROP INDEX carrot_messagelog_pending', 'DO 0');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND index_name = 'carrot_messagelog_adopted_uuid'),
    'ALTER TABLE carrot_messagelog DROP INDEX carrot_messagelog_adopted_uuid', 'DO 0');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND index_name = 'carrot_messagelog_uuid'),
    'ALTER TABLE carrot_messagelog DROP INDEX carrot_messagelog_uuid', 'DO 0');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
ALTER TABLE carrot_messagelog
    DROP COLUMN adopted_uuid,
    DROP COLUMN due_time,
    DROP COLUMN suspect,
    DROP COLUMN owner,
    DROP COLUMN attempts;
