DROP INDEX IF EXISTS carrot_scheduledtask_next_run;
DROP INDEX IF EXISTS carrot_scheduledtask_unplanned;
ALTER TABLE carrot_scheduledtask
    DROP COLUMN IF EXISTS refusal,
    DROP COLUMN IF EXISTS planned_for,
    DROP COLUMN IF EXISTS last_run,
    DROP COLUMN IF EXISTS next_run,
    DROP COLUMN IF EXISTS anchor,
    DROP COLUMN IF EXISTS overlap,
    DROP COLUMN IF EXISTS missed,
    DROP COLUMN IF EXISTS time_zone,
    DROP COLUMN IF EXISTS cron,
    DROP COLUMN IF EXISTS priority;
