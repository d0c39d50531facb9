"""The formats by name: what reads each, which rules it follows, and what its publisher asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from datasets.formats import generic
from datasets.inputs import Source
from datasets.lines import Rows
from datasets.model import DatasetError

OWN_LICENCE = "not known: files of your own; the licence is what you agreed with their owner"
GRADES = "a kind without a share has its value: play, like 1; undislike 0.5; unlike 0.25; skip, dislike 0"
SHARE = "fraction is the share that was heard; less than 0.5 is a skip"


class Format(NamedTuple):
    """A source that can be imported.

    Attributes
    ----------
    help : str
        One line.
    read : callable
        Yields the rows of a source; takes what `--map` says.
    licence : str
    rules : tuple of str
        What the card says beyond the rules that all formats share.
    mapped : bool
        Whether `--map` is needed.
    """

    help: str
    read: Callable[[Source, Mapping[str, str]], Iterator[Rows]]
    licence: str = OWN_LICENCE
    rules: tuple[str, ...] = ()
    mapped: bool = False


FORMATS: Mapping[str, Format] = {
    "csv": Format("any delimited file with a header", generic.read_csv, rules=(SHARE, GRADES), mapped=True),
    "parquet": Format("any Parquet file", generic.read_parquet, rules=(SHARE, GRADES), mapped=True),
    "jsonl": Format("a JSON object a line", generic.read_jsonl, rules=(SHARE, GRADES), mapped=True),
    "sequences": Format(
        "a line a user: the user, then items in order",
        generic.read_sequences,
        rules=("an item of a sequence is a play of value 1", "a line is a session"),
    ),
}


def find_format(name: str) -> Format:
    """Return a format by its name.

    Raises
    ------
    DatasetError
        There is none of that name.
    """
    if name not in FORMATS:
        raise DatasetError(f"source {name!r} is not known; say one of {', '.join(FORMATS)}")
    return FORMATS[name]
