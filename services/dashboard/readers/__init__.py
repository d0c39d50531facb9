"""Readers: each asks Kafka or Redis for one part of a snapshot."""
