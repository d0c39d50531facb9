"""Pictures of frames in one visual language, for the report and the notebooks; readable on a slide."""
