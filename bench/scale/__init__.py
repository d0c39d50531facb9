"""What a listen and a request cost, and what that makes of larger services."""
