"""Programs to start from; README.md says what each shows."""
