"""Figures: pure arithmetic between what was read and what is shown."""
