"""`/v1`: recommendations, events, items and listeners over HTTP, in addition to Botify's own REST API."""
