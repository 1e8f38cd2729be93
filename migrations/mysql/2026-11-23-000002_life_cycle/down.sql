DROP TABLE IF EXISTS carrot_worker;
DROP INDEX carrot_messagelog_in_progress ON carrot_messagelog;
DROP INDEX carrot_messagelog_pending ON carrot_messagelog;
DROP INDEX carrot_messagelog_adopted_uuid ON carrot_messagelog;
DROP INDEX carrot_messagelog_uuid ON carrot_messagelog;
ALTER TABLE carrot_messagelog
    DROP COLUMN adopted_uuid,
    DROP COLUMN due_time,
    DROP COLUMN suspect,
    DROP COLUMN owner,
    DROP COLUMN attempts;
