"""`botify whatif`: the requests of a log answered again by another recommender, and what that would have been worth."""
