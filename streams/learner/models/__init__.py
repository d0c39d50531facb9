"""What is learned: one model a file."""
