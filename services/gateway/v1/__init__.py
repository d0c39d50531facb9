"""`/v1`: recommendations, events, items and listeners over HTTP, beside Botify's own REST API."""
