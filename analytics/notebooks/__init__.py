"""Notebooks about one real run; `python -m botify.analytics.notebooks.run` simulates it and executes them."""
