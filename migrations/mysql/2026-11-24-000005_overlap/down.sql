ALTER TABLE carrot_scheduledtask DROP COLUMN unfinished_from;
