"""The batch job that makes the lists of `contextual`, `i2i`, `similar_users` and `indexed` out of listens."""
