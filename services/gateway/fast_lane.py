"""A short way for the requests that listeners make all the time.

FastAPI's way through middleware, router, dependencies and validation takes 170 µs, several times what the gateway
itself has to do for a `/next`. Here a `/next` or `/last` that is in order is answered at once, by the same service and
with the same model of its body. Anything else, and anything that is wrong, goes FastAPI's way and has its error there.
"""

from __future__ import annotations

from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from schemas.validation import MAX_USER
from services.gateway.listener_calls import ListenerCalls
from services.gateway.messages import Heard
from services.gateway.models import HeardBody
from services.gateway.scope import BODY, CALL, header_of
from services.gateway.wrong import ANSWERED, answer_to

_DIGITS = len(str(MAX_USER))


class FastLane:
    """Answers what is in order itself.

    Parameters
    ----------
    app : ASGI application
        Answers everything else.
    calls : ListenerCalls
    """

    def __init__(self, app: ASGIApp, calls: ListenerCalls) -> None:
        self._app = app
        self._answers = {"next": calls.next, "last": calls.last}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        response = await self._answer(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if response is None:
            await self._app(scope, receive, send)
        else:
            await response(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response | None:
        _, _, rest = scope["path"].partition("/")
        name, _, user = rest.partition("/")
        answer, heard = self._answers.get(name), heard_of(user, scope)
        if answer is None or heard is None:
            return None
        try:
            return await answer(heard, scope[CALL])
        except ANSWERED as error:
            return answer_to(error)


def heard_of(user: str, scope: Scope) -> Heard | None:
    """Return what a request says; None where it is not in order.

    Examples
    --------
    >>> scope = {"headers": [(b"content-type", b"application/json")], BODY: b'{"track": 7, "time": 0.5}'}
    >>> heard_of("42", scope)
    Heard(user=42, track=7, fraction=0.5)
    >>> heard_of("-1", scope) is None
    True
    """
    if not (user.isascii() and user.isdecimal() and len(user) <= _DIGITS and int(user) <= MAX_USER):
        return None
    if header_of(scope, b"content-type") != "application/json" or BODY not in scope:
        return None
    try:
        body = HeardBody.model_validate_json(scope[BODY])
    except ValidationError:
        return None
    return Heard(int(user), body.track, body.time)
