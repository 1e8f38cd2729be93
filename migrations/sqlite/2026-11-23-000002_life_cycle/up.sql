-- The columns of a message's life cycle besides django-carrot's. Each is nullable or has a default, so
-- that Django's inserts, which name their own columns, keep working.
-- the number of attempts whose start is recorded
ALTER TABLE carrot_messagelog ADD COLUMN attempts integer NOT NULL DEFAULT 0;
-- the worker that claimed it (carrot_worker.id)
ALTER TABLE carrot_messagelog ADD COLUMN owner bigint;
-- whether a worker that vanished had claimed it
ALTER TABLE carrot_messagelog ADD COLUMN suspect bool NOT NULL DEFAULT false;
-- the sweep publishes a PENDING message from this time on
ALTER TABLE carrot_messagelog ADD COLUMN due_time datetime;
-- a copy of uuid in rows that we made for messages without a row: unique, which uuid is not
ALTER TABLE carrot_messagelog ADD COLUMN adopted_uuid varchar(200);

CREATE TABLE IF NOT EXISTS carrot_worker (
    id            integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    -- for people
    host          varchar(200) NOT NULL,
    -- the machine's boot and the process namespace: where a pid means something
    namespace     varchar(200) NOT NULL,
    pid           integer NOT NULL,
    -- when the process began, in clock ticks since boot: tells a pid from its re-use
    process_start bigint NOT NULL,
    started       datetime NOT NULL,
    heartbeat     datetime NOT NULL
);
