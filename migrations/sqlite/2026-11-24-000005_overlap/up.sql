-- No message of an occurrence that was planned before this is unfinished, so that none of those need be
-- read to see whether a run would overlap; NULL: not known. Kept where overlap is skip.
ALTER TABLE carrot_scheduledtask ADD COLUMN unfinished_from datetime;
