ALTER TABLE carrot_scheduledtask DROP COLUMN IF EXISTS unfinished_from;
