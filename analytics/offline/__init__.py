"""Offline evaluation of recommenders from logged listens."""
