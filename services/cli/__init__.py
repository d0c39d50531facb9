"""The `botify` command; each file has the commands of one part."""
