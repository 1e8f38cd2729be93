-- The indexes, which `migrate` builds outside its steps, may not exist.
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'carrot_scheduledtask' AND index_name = 'carrot_scheduledtask_next_run'),
    'ALTER TABLE carrot_scheduledtask DROP INDEX carrot_scheduledtask_next_run', 'DO 0');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
ALTER TABLE carrot_scheduledtask
    DROP COLUMN is_planned;
ALTER TABLE carrot_scheduledtask
    DROP COLUMN refusal,
    DROP COLUMN planned_for,
    DROP COLUMN last_run,
    DROP COLUMN next_run,
    DROP COLUMN anchor,
    DROP COLUMN overlap,
    DROP COLUMN missed,
    DROP COLUMN time_zone,
    DROP COLUMN cron,
    DROP COLUMN priority;
