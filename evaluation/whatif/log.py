"""The log of a what-if: requests with their answers, and what was heard after them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import NamedTuple

from confluent_kafka import Message

from botify.core.kafka.admin import offsets_at
from botify.core.kafka.reader import TopicReader
from botify.core.keyed_random import mix, uniform
from botify.core.settings import Settings
from botify.evaluation import EvaluationError
from botify.evaluation.why.evidence import SKEW_MS, Found, Past, Tell, decoded
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from botify.services.recommender.sessions import REQUESTS
from botify.streams.folds.sessions import GAP_MS

MOST_ANSWERS = 200_000  # that are held at a time, some 2 KB each
LATE_MS = 60_000  # by which an answer may follow its request
SAMPLED = 0x77686174  # key of the draw of listeners


class Window(NamedTuple):
    """The requests to answer again: records of this time, and of this share of the listeners."""

    from_ms: int
    to_ms: int
    share: float = 1.0

    def has(self, user: int) -> bool:
        """Return whether the listener is in the sample, always the same one for a share."""
        return self.share >= 1 or bool(uniform(mix(SAMPLED, user), 0) < self.share)


def read_answered(settings: Settings, codec: Codec, window: Window, tell: Tell = lambda count: None) -> list[Found]:
    """Return the answered requests of a window, each once, in the order of each partition.

    Raises `EvaluationError` if there are none, or more than `MOST_ANSWERS`.
    """
    topics, answers = Topics.of(settings), dict[str, tuple[Recommendation, int]]()
    late = window._replace(from_ms=max(0, window.from_ms - SKEW_MS), to_ms=window.to_ms + LATE_MS)
    for message in _records(settings, topics.recommendations.name, late, tell):
        answer = decoded(codec, message, Recommendation)
        if answer is None or not window.has(answer.user):
            continue
        answers.setdefault(answer.request_id, (answer, message.timestamp()[1]))
        if len(answers) > MOST_ANSWERS:
            raise EvaluationError(
                f"there are more than {MOST_ANSWERS:,} answers; give a shorter time by --from and --to, or a part of "
                "the listeners by --share 0.1"
            )
    found, sessions = list[Found](), dict[int, list[RecommendationRequest]]()
    # those before the window only say what the recommender remembered of a session
    before = window._replace(from_ms=max(0, window.from_ms - GAP_MS))
    for message in _records(settings, topics.recommendation_requests.name, before, tell):
        request = decoded(codec, message, RecommendationRequest)
        if request is None or not window.has(request.user):
            continue
        earlier = sessions.get(request.user, [])
        if earlier and earlier[0].session_id != request.session_id:
            earlier = []
        requested_ms = message.timestamp()[1]
        if requested_ms >= window.from_ms and (reply := answers.pop(request.request_id, None)) is not None:
            found.append(Found(request, reply[0], requested_ms, reply[1], earlier if reply[0].pending else ()))
        if request.has_listen:
            sessions[request.user] = [*earlier, request][-REQUESTS:]
    if not found:
        raise EvaluationError("that time has no request with an answer; requests are kept for a day by default")
    return found


def _records(settings: Settings, topic: str, window: Window, tell: Tell) -> Iterator[Message]:
    begin, end = (offsets_at(settings, topic, at_ms) for at_ms in (window.from_ms, window.to_ms))
    with closing(TopicReader(settings, topic, begin, list(begin))) as reader:
        for batch in reader.read_to_end(end):
            tell(len(batch))
            yield from batch


Heard = Mapping[tuple[int, str, int], Listen]  # by listener, session and position


def heard_in(past: Past) -> Heard:
    """Return the listens; of copies the first."""
    heard: dict[tuple[int, str, int], Listen] = {}
    for user, listens in past.listens.items():
        for one in listens:
            heard.setdefault((user, one.session_id, one.position), one)
    return heard


def reward_of(one: Found, heard: Heard, now_ms: int) -> float | None:
    """Return the share of an answered track that was heard as the session's next one, 0 if it was not heard.

    It is None while the listener may still be hearing it.
    """
    request, answer = one.request, one.answer
    listen = heard.get((request.user, request.session_id, request.position + 1))
    if listen is None and one.answered_ms > now_ms - GAP_MS:
        return None
    if listen is None or (listen.track, listen.recommender) != (answer.track, answer.recommender):
        return 0.0
    return listen.fraction
