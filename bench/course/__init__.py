"""The course's homework: a recommender against the control of an edition, in the course's own formats."""
