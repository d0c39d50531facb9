"""A small shop on `/v1`: one page that shows a visitor ten items, and tells what the visitor does with them."""
