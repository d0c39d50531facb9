"""The `botify` command: each file adds the commands of one part."""
