"""What is learned: `fism` (`factors.py`) and `next_track` (`next_track.py`), with their compiled loops."""
