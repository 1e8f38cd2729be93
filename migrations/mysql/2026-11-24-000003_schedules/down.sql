DROP INDEX carrot_scheduledtask_next_run ON carrot_scheduledtask;
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
