-- What the embedded broker reads: the messages that wait in a queue, in their order. (MariaDB before 10.8
-- has no descending indexes, and sorts.)
SET @step = IF(EXISTS (SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'carrot_messagelog' AND index_name = 'carrot_messagelog_waiting'), 'DO 0',
    'CREATE INDEX carrot_messagelog_waiting ON carrot_messagelog (status, routing_key, priority DESC, id)');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
