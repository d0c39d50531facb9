"""Pure folds of listens into state: no Kafka, no Redis, no clock. Event time is the only time they know."""
