"""The formats by name: what reads each, which rules it follows, and what its publisher asks for."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from botify.ingest.dataset import DatasetError
from botify.ingest.formats import generic, published
from botify.ingest.inputs import Rows, Source

OWN_LICENCE = "not known: files of your own; the licence is what you agreed with their owner"
GRADES = "a kind without a share has its value: play, like 1; undislike 0.5; unlike 0.25; skip, dislike 0"
SHARE = "fraction is the share that was heard; less than 0.5 is a skip"


class Format(NamedTuple):
    """A source that can be imported."""

    read: Callable[[Source], Iterator[Rows]]
    licence: str = OWN_LICENCE
    rules: tuple[str, ...] = ()  # what the card says beyond the rules that all formats share
    mapped: bool = False  # whether `--map` is needed


FORMATS: Mapping[str, Format] = {
    "csv": Format(generic.read_csv, rules=(SHARE, GRADES), mapped=True),
    "parquet": Format(generic.read_parquet, rules=(SHARE, GRADES), mapped=True),
    "jsonl": Format(generic.read_jsonl, rules=(SHARE, GRADES), mapped=True),
    "sequences": Format(
        generic.read_sequences, rules=("an item of a sequence is a play of value 1", "a line is a session")
    ),
    "lastfm-1k": Format(
        published.read_lastfm_1k,
        "Last.fm 1K (O. Celma): non-commercial use",
        ("a line is a play of value 1", "a track without a MusicBrainz id has the id 'artist – title'"),
    ),
    "hetrec-lastfm": Format(
        published.read_hetrec,
        "HetRec 2011 (GroupLens): non-commercial research",
        ("the times at which a user tagged an artist are plays of value 1", "items are artists"),
    ),
    "listenbrainz": Format(
        published.read_listenbrainz,
        "ListenBrainz (MetaBrainz): CC0",
        ("a listen is a play of value 1", "an item is a MusicBrainz recording, else a MessyBrainz one"),
    ),
    "movielens": Format(
        published.read_movielens,
        "MovieLens (GroupLens): research; no commercial use without permission, no redistribution",
    ),
    "yambda": Format(
        published.read_yambda,
        "Yambda (Yandex): Apache 2.0",
        (SHARE, GRADES, "times count from the log's own beginning, which is shown as 1970"),
    ),
    "recbole": Format(
        published.read_recbole,
        "that of the data set which RecBole's files were made of",
        ("an event without a rating is a play of value 1",),
    ),
    "botify": Format(
        published.read_botify,
        "simulated listens of Botify's course",
        (SHARE, "a session ends with `last`, or where what is heard is not what was recommended"),
    ),
}


def find_format(name: str) -> Format:
    """Return a format by its name; raises `DatasetError` if there is none of that name."""
    if name not in FORMATS:
        raise DatasetError(f"source {name!r} is not known; say one of {', '.join(FORMATS)}")
    return FORMATS[name]
