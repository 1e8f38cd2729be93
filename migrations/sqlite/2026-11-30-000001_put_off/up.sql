-- A put-off message, whose run could not begin, waits in its row. Nullable, so that Django's inserts, which name
-- their own columns, keep working.
-- since when its run has been put off
ALTER TABLE carrot_messagelog ADD COLUMN put_off_since datetime;
-- why
ALTER TABLE carrot_messagelog ADD COLUMN put_off_reason text;
