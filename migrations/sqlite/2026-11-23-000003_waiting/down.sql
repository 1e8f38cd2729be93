DROP INDEX IF EXISTS carrot_messagelog_waiting;
