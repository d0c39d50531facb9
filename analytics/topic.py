"""Listens from Kafka, as a frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from analytics.frames import concat_listens, drop_copies, listens_frame, of_run
from schemas.codec import Codec
from schemas.entered import entered
from schemas.events import Listen
from schemas.registry import codec_of
from schemas.settings import Settings
from schemas.topic_reader import TopicReader
from schemas.topics import Topics


def read_listens(
    settings: Settings,
    run_id: str | None = None,
    from_offsets: Mapping[int, int] | None = None,
    to_offsets: Mapping[int, int] | None = None,
) -> pd.DataFrame:
    """Read listens from the topic; nothing is committed, so reading twice is harmless.

    Copies of a listen and messages that belong in the dead-letter topic are left out, as the worker leaves them out.

    Parameters
    ----------
    run_id : str, optional
        Only this run of the simulator.
    from_offsets, to_offsets : mapping of partition to offset, optional
        First offset to be read (by default the oldest there is) and first not to be (by default where the topic ends
        at the time of the call, so that reading ends while listeners listen on).

    Returns
    -------
    DataFrame
        As `analytics.frames.listens_frame`.

    Raises
    ------
    TopicError
        The topic does not exist or the broker stops answering.
    """
    reader = TopicReader(settings, Topics.of(settings).listens.name, from_offsets)
    try:
        frames = (listens_frame(batch) for batch in _decoded(reader, codec_of(settings), to_offsets))
        listens = drop_copies(concat_listens(frames if run_id is None else (of_run(f, run_id) for f in frames)))
    finally:
        reader.close()
    return listens


def _decoded(reader: TopicReader, codec: Codec, end: Mapping[int, int] | None) -> Iterator[list[Listen]]:
    for messages in reader.read_to_end(end):
        yield [listen for _, listen in entered(messages, Listen, codec)]
