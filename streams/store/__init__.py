"""Where derived state lives, together with the offset it was derived up to."""
