ALTER TABLE carrot_messagelog DROP COLUMN put_off_reason;
ALTER TABLE carrot_messagelog DROP COLUMN put_off_since;
