"""Simulated listeners: worlds, listener models, the Kafka loop, Gymnasium environments and agents."""
