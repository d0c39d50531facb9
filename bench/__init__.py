"""Benchmarks (`make bench`) with real Kafka and Redis on this machine; ratios are of figures from one run."""
