-- The tables hold the user's history and may be Django's: they are never dropped from here.
SELECT 1;
