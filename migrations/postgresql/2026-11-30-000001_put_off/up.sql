-- A put-off message, whose run could not begin, waits in its row. Nullable, so that Django's inserts, which name
-- their own columns, keep working.
ALTER TABLE carrot_messagelog
    -- since when its run has been put off
    ADD COLUMN IF NOT EXISTS put_off_since timestamptz,
    -- why
    ADD COLUMN IF NOT EXISTS put_off_reason text;
