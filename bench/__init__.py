"""Benchmarks: `make bench`. Real Kafka, real Redis, this machine; ratios come from one and the same run."""
