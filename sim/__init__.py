"""Listeners who judge the recommendations: worlds, user models, the Kafka loop, Gymnasium environments, agents."""
