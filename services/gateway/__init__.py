"""Botify's REST API in front of the topics: `python -m botify.services.gateway`."""
