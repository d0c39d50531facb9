"""Kafka as all packages use it: configuration, reading, offsets."""
