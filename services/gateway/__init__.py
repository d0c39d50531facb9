"""Botify's REST API in front of the topics: `python -m services.gateway`."""
