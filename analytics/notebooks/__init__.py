"""Notebooks, each telling one story of a real run; `python -m analytics.notebooks.run` makes that run and them."""
