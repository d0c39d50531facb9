"""Experiments: which listener gets which treatment, and which recommender that means.

They are declared in one TOML file::

    default = "random"                 # for listeners that no experiment gives a recommender

    [[experiment]]
    name = "STICKY_ARTIST"
    split = 2                          # number of buckets
    treatments = [
        { name = "C", recommender = "random" },
        { name = "T1", recommender = "sticky_artist" },   # share = 4 gives a treatment four buckets
    ]

The bucket is Botify's: `mmh3.hash(str(user), mmh3.hash(salt), signed=False) % split`, with the name as the salt
unless the file says otherwise (`salt = "..."`). So a listener lands where the course's own service puts them.

Several run at once, in layers (Tang et al., "Overlapping experiment infrastructure", KDD 2010)::

    [[experiment]]
    name = "MIX"
    layer = "ranking"                  # no listener is in two experiments of one layer
    traffic = 0.2                      # share of the layer's listeners, in thousandths
    treatments = [{ name = "C", recommender = "sticky_artist" }, { name = "T1", recommender = "mix" }]

    [layer.ranking]
    salt = "ranking-2"                 # another salt shuffles the layer's listeners anew; "layer:ranking" else

A layer deals its listeners out to its experiments in the order of the file, so a new one goes to the end. Layers are
independent of each other, and an experiment without a layer is one of its own, with all listeners.

A treatment need not name a recommender: it changes something else, then. Where several experiments give a listener a
recommender, **the first in the file decides**; the treatments of all are logged. An experiment after one that gives
every listener a recommender is warned of: its own never serve.

An A/A run, in which no difference should be found, is one line: `aa = true` in place of the treatments makes `C` and
`T1` with the same recommender, the one that `recommender = "..."` names, or whoever would have answered anyway.
"""

from services.experiments.assignment import Assignment, Experiment, Experiments, Slice, Treatment
from services.experiments.declaration import DEFAULT_FILE, load_experiments

__all__ = ["DEFAULT_FILE", "Assignment", "Experiment", "Experiments", "Slice", "Treatment", "load_experiments"]
