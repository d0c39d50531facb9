"""The fold without the loop: a partition read straight from the topic, for verification and replay."""
