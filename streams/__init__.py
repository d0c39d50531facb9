"""Listens become state: pure folds, the store that keeps them, and the Faust worker that drives both."""
