"""Views: pure functions from a snapshot to HTML."""
