"""What can be evaluated: Botify's own recommenders, and their peers."""
