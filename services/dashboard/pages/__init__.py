"""Pages: what NiceGUI serves."""
