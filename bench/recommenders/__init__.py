"""All recommenders on identical copies of a world, without Kafka."""
