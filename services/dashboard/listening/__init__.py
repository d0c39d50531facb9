"""Being a listener: the sitting, and who is asked for the next track."""
