"""Cards of worlds: published figures beside what a world gives, `botify world card`."""
