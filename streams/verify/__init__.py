"""Verification: the state in Redis is what a plain fold of the topic gives, item by item."""
