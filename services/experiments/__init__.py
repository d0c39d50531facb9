"""Experiments: the treatment of each listener, and the recommender of each treatment.

Without any, everybody gets `BOTIFY_RECOMMENDER`, or `next_track`. One TOML file declares them::

    default = "random"                 # for everybody else; BOTIFY_RECOMMENDER goes before

    [[experiment]]
    name = "STICKY_ARTIST"
    split = 2                          # number of buckets
    treatments = [
        { name = "C", recommender = "random" },
        { name = "T1", recommender = "sticky_artist" },   # share = 4 gives a treatment four buckets
    ]

The bucket is Botify's: `mmh3.hash(str(user), mmh3.hash(salt), signed=False) % split`, with the name as the salt
unless the file has another one (`salt = "..."`). So a listener gets the same bucket as in the course's service.

Several experiments run at the same time, in layers (Tang et al., "Overlapping experiment infrastructure", KDD 2010)::

    [[experiment]]
    name = "MIX"
    layer = "ranking"                  # a listener is in at most one experiment of a layer
    traffic = 0.2                      # share of the layer's listeners, in thousandths
    treatments = [{ name = "C", recommender = "sticky_artist" }, { name = "T1", recommender = "mix" }]

    [layer.ranking]
    salt = "ranking-2"                 # another salt shuffles the layer's listeners; default: "layer:ranking"

A layer divides its listeners among its experiments in the order of the file, so add new experiments at the end. Layers
are independent of each other; an experiment without a layer has a layer of its own, with all listeners.

A treatment without a recommender changes something else. If several experiments give a listener a recommender, **the
first in the file decides**; the treatments of all are logged. If an experiment gives every listener a recommender,
those of later experiments never serve, and a warning says so.

An A/A run, which should find no difference, is one line: `aa = true` in place of the treatments declares `C` and `T1`
with the same recommender, that of `recommender = "..."`, or the one that the listener gets without the experiment.

An experiment that decides by itself declares its goals (`core/goals.py`), and the shares of its listeners that its ramp
goes through::

    success = ["mean_time_per_session"]                              # one of them must get better
    guardrails = { sessions = 0.02, mean_request_latency = 0.1 }     # may lose at most so much of the control's mean
    ramp = [0.01, 0.1, 0.5, 1.0]                                     # no listener until `botify experiment ramp` starts

The steps of a ramp are on the topic of experiments; `LiveExperiments` follows it, so that traffic changes while
recommenders and gateways run. A step moves the end of the experiment's slice, so listeners stay in their treatment.
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
