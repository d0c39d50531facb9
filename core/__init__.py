"""The base of all packages: settings, errors, logging, telemetry, random numbers, Kafka clients."""
