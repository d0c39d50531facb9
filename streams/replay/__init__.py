"""Replay: state made anew from the topic beside the live one, records copied to elsewhere, and the swap."""
