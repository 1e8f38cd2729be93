-- The columns of a message's life cycle besides django-carrot's. Each is nullable or has a default, so
-- that Django's inserts, which name their own columns, keep working. MySQL has no transactions for
-- this and no IF NOT EXISTS, so each step checks whether it was done.
-- the number of attempts whose start is recorded
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

-- whether a worker that vanished had claimed it
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'suspect'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN suspect tinyint(1) NOT NULL DEFAULT 0', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- the sweep publishes a PENDING message from this time on
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND column_name = 'due_time'), 'DO 0',
    CONCAT('ALTER TABLE carrot_messagelog ADD COLUMN due_time datetime(6)', COALESCE(@carrot_alter, '')));
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- a copy of uuid in rows that we made for messages without a row: unique, which uuid is not; bytes, since a collation may take two
-- keys for one; as long as a message id can be, since an index on an old table takes no more than 767
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
