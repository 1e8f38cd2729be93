-- The indexes, which `migrate` builds outside its steps, may not exist.
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND index_name = 'carrot_messagelog_waiting'),
    'ALTER TABLE carrot_messagelog DROP INDEX carrot_messagelog_waiting', 'DO 0');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
