-- All messages of occurrences that were planned before this time are finished, so the check for an overlap
-- need not read them; NULL: unknown. Maintained where overlap is skip.
ALTER TABLE carrot_scheduledtask ADD COLUMN unfinished_from datetime;
