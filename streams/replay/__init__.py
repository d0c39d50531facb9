"""Replay: rebuild state from the topic beside the live one, copy records elsewhere, swap namespaces."""
