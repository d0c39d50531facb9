"""What people and programs talk to: recommender, experiments, the stack and the command line."""
