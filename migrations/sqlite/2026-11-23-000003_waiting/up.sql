-- What the embedded broker reads: the messages that wait in a queue, in their order.
CREATE INDEX IF NOT EXISTS carrot_messagelog_waiting ON carrot_messagelog (routing_key, priority DESC, id)
    WHERE status = 'PUBLISHED';
