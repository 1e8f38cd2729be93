-- The columns of a message's life cycle besides django-carrot's. Each is nullable or has a default, so
-- that Django's inserts, which name their own columns, keep working.
ALTER TABLE carrot_messagelog
    -- the number of attempts whose start is recorded
    ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0,
    -- the worker that claimed it (carrot_worker.id)
    ADD COLUMN IF NOT EXISTS owner bigint,
    -- whether a worker that vanished had claimed it
    ADD COLUMN IF NOT EXISTS suspect boolean NOT NULL DEFAULT false,
    -- the sweep publishes a PENDING message from this time on
    ADD COLUMN IF NOT EXISTS due_time timestamptz,
    -- a copy of uuid in rows that we made for messages without a row: unique, which uuid is not
    ADD COLUMN IF NOT EXISTS adopted_uuid varchar(200);

CREATE TABLE IF NOT EXISTS carrot_worker (
    id            bigserial PRIMARY KEY,
    -- for people
    host          varchar(200) NOT NULL,
    -- the machine's boot and the process namespace: where a pid means something
    namespace     varchar(200) NOT NULL,
    pid           integer NOT NULL,
    -- when the process began, in clock ticks since boot: tells a pid from its re-use
    process_start bigint NOT NULL,
    started       timestamptz NOT NULL DEFAULT now(),
    heartbeat     timestamptz NOT NULL DEFAULT now()
);
