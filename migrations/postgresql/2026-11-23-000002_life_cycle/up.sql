-- What a message's life needs beside django-carrot's columns. Each is nullable or has a default, so
-- that Django's inserts, which name their own columns, keep working.
ALTER TABLE carrot_messagelog
    -- runs that are known to have begun
    ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0,
    -- the worker that claimed it (carrot_worker.id)
    ADD COLUMN IF NOT EXISTS owner bigint,
    -- claimed before by a worker that vanished
    ADD COLUMN IF NOT EXISTS suspect boolean NOT NULL DEFAULT false,
    -- a PENDING message is the sweep's to publish from this time on
    ADD COLUMN IF NOT EXISTS due_time timestamptz,
    -- the uuid again, for rows that we made for messages without one; unique, as uuid is not
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
