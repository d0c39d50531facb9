"""Replay: rebuild state from the topic next to the live one, copy records elsewhere, swap namespaces."""
