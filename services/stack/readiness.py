"""Whether a gateway of this machine is ready."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable

from core.kafka.reachable import CONNECT_TIMEOUT_S
from services.gateway.messages import NO_CATALOGUE
from services.stack.errors import StackError
from services.stack.ports import HOST

_POLL_S = 0.1


def wait_until_ready(port: int, deadline_s: float, running: Callable[[], bool] = lambda: True) -> list[str]:
    """Wait until a gateway of this machine says that the next request will be answered.

    Parameters
    ----------
    port : int
        On the loopback interface.
    deadline_s : float
    running : callable
        Whether waiting still makes sense.

    Returns
    -------
    list of str
        What it waits for, where that is the catalogue and nothing else: somebody has to publish one.

    Raises
    ------
    StackError
        It is not ready in that time, or will never be.
    """
    give_up = time.monotonic() + deadline_s
    while not set(problems := _problems_of_gateway(port)) <= {NO_CATALOGUE}:
        told = f"{'; '.join(problems)}; `botify status` says where its log is"
        if not running():
            raise StackError(f"the stack ended before the gateway was ready: {told}")
        if time.monotonic() > give_up:
            raise StackError(f"the gateway at port {port} is not ready after {deadline_s:.0f} s: {told}")
        time.sleep(_POLL_S)
    return problems


def _problems_of_gateway(port: int) -> list[str]:
    connection = http.client.HTTPConnection(HOST, port, timeout=CONNECT_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return [str(problem) for problem in json.loads(connection.getresponse().read())["problems"]]
    except (OSError, http.client.HTTPException) as error:
        return [f"it does not answer ({error!r})"]
    except (ValueError, KeyError, TypeError):
        return ["what answers is no gateway of Botify"]
    finally:
        connection.close()
