"""`botify report`: experiments, sessions, popularity and pipeline health on one self-contained page."""
