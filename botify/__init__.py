"""Botify: a streaming recommender on Apache Kafka, and the listeners who judge it."""
