"""`botify report`: what the listens say, on one page that stands by itself."""
