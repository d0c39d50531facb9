"""The recommender service and its recommenders; see `registry`."""
