"""Judging recommenders from what was logged, before listeners meet them."""
