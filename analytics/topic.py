"""Listens from Kafka, as a frame."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analytics.frames import concat_listens, drop_copies, listens_frame, of_run
from schemas.entered import entered
from schemas.events import Listen
from schemas.registry import codec_of
from schemas.rejected_before import RejectedBefore
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

    Copies of a listen are left out, and what is a dead letter or belongs among them, as the worker leaves them out.

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
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    reader, rejected = TopicReader(settings, topic, from_offsets), RejectedBefore(settings, topic)
    try:
        rejected.refresh()
        batches = reader.read_to_end(to_offsets)
        frames = (listens_frame([listen for _, listen in entered(b, Listen, codec, rejected.offsets)]) for b in batches)
        listens = drop_copies(concat_listens(frames if run_id is None else (of_run(f, run_id) for f in frames)))
    finally:
        reader.close()
        rejected.close()
    return listens
