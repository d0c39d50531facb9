"""The recommender service: requests in, recommendations out, one file a recommender."""
