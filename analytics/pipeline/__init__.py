"""How the pipeline does: what its own topics say about latency, freshness and lag."""
