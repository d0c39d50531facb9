"""The folds over columns: the same state as `streams/folds`, which states them listen by listen, without objects."""
