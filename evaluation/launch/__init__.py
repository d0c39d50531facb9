"""Launches: an experiment that declares its goals is decided, and ramped up or rolled back."""
