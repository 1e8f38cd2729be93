DROP TABLE IF EXISTS carrot_worker;
DROP INDEX IF EXISTS carrot_messagelog_in_progress;
DROP INDEX IF EXISTS carrot_messagelog_pending;
DROP INDEX IF EXISTS carrot_messagelog_adopted_uuid;
DROP INDEX IF EXISTS carrot_messagelog_uuid;
ALTER TABLE carrot_messagelog
    DROP COLUMN IF EXISTS adopted_uuid,
    DROP COLUMN IF EXISTS due_time,
    DROP COLUMN IF EXISTS suspect,
    DROP COLUMN IF EXISTS owner,
    DROP COLUMN IF EXISTS attempts;
