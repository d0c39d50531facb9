"""The Faust worker: listens in; state in Redis, closed sessions and dead letters out."""
