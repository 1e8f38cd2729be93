-- This step is only the embedded broker's index, which `migrate` builds.
SELECT 1;
