"""The batch job that builds the lists of `contextual`, `i2i`, `similar_users` and `indexed` from listens."""
