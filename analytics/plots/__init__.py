"""Charts of frames in one style, for the report and the notebooks."""
