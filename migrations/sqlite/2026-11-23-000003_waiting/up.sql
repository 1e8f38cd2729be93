-- The step of what the embedded broker reads, which is an index alone: `migrate` builds those.
SELECT 1;
