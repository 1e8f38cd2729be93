ALTER TABLE carrot_messagelog DROP COLUMN IF EXISTS put_off_since, DROP COLUMN IF EXISTS put_off_reason;
