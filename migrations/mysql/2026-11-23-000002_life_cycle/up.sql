-- What a message's life needs beside django-carrot's columns. Each is nullable or has a default, so
-- that Django's inserts, which name their own columns, keep working. MySQL has no transactions for
-- this and no IF NOT EXISTS, so each step asks whether it was done.
-- runs that are known to have begun
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'attempts'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN attempts integer NOT NULL DEFAULT 0', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- the worker that claimed it (carrot_worker.id)
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'owner'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN owner bigint', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- claimed before by a worker that vanished
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'suspect'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN suspect tinyint(1) NOT NULL DEFAULT 0', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- a PENDING message is the sweep's to publish from this time on
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'due_time'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN due_time datetime(6)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- the uuid again, for rows that we made for messages without one; unique, as uuid is not; bytes, since a collation may take two keys
-- for one; as many as a message id can have, since an index on an old table takes no more than 767
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'adopted_uuid'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN adopted_uuid varbinary(255)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

CREATE TABLE IF NOT EXISTS carrot_worker (
    id            bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    -- for people
    host          varchar(200) NOT NULL,
    -- the machine's boot and the process namespace: where a pid means something
    namespace     varchar(200) NOT NULL,
    pid           integer NOT NULL,
    -- when the process began, in clock ticks since boot: tells a pid from its re-use
    process_start bigint NOT NULL,
    started       datetime(6) NOT NULL,
    heartbeat     datetime(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
