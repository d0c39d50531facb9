"""From topics to a decision: frames, experiment statistics and offline evaluation."""
