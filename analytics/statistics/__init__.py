"""Statistics of experiments: pure functions of numbers, each the textbook's and named after it."""
