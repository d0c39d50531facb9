"""Snapshots: a namespace in one file, with its checkpoints, so that state outlives the topic's retention."""
