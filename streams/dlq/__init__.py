"""Dead letters: list, redrive, drop, exclude."""
