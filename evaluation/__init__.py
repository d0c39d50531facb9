"""Recommenders judged on real logs: each event is predicted, then learned, once, in order."""
