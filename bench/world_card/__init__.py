"""Cards of worlds: published figures beside what a world gives, `python -m botify.bench.studies card`."""
