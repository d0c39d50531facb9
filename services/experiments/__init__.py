"""Experiments: the treatment of each listener, and the recommender of each treatment; docs/analytics.md has the file.

Without any, everybody gets `BOTIFY_RECOMMENDER`, or `botify`. The bucket is Botify's:
`mmh3.hash(str(user), mmh3.hash(salt), signed=False) % split`, so a listener gets the same bucket as in the course's
service. Experiments run at the same time, in layers (Tang et al., "Overlapping experiment infrastructure", KDD 2010).
"""

from botify.services.experiments.assignment import Assignment, Experiment, Experiments, Slice, Treatment
from botify.services.experiments.declaration import COURSE, load_experiments, load_policy
from botify.services.experiments.live import LiveExperiments

__all__ = [
    "COURSE",
    "Assignment",
    "Experiment",
    "Experiments",
    "LiveExperiments",
    "Slice",
    "Treatment",
    "load_experiments",
    "load_policy",
]
