"""Notebooks about one real run; `python -m analytics.notebooks.run` simulates it and executes them."""
