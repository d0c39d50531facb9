"""The ground floor: settings, errors, logs, telemetry, random numbers, Kafka clients. Nothing of the domain."""
