"""Models as projections: folds of the training topic, checkpointed like all other state, published as snapshots."""
