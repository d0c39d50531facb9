"""All recommenders on identical worlds, each with a world of its own, in one process: the pure parts without Kafka."""
