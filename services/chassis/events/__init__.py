"""Facts between rooms: the log, its back ends, the outbox that feeds it and the consumer that drains it."""
