"""Invariant: whatever is killed, each new user has a number of its own, which only that user's events count for."""

import random
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx

from botify.core.settings import Settings
from botify.schemas.external_ids import UserIds
from botify.services.stack.embedded import EmbeddedStack
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from botify.streams.verify import verify
from tests.chaos.conftest import StartProgram, StartWorker
from tests.chaos.programs import Program
from tests.chaos.whole import CATCH_UP_S, caught_up
from tests.support import eventually

USERS, USERS_PER_S, LISTENS, CLIENTS = 230, 20, 3, 8
GATEWAY = {"BOTIFY_GATEWAY_DASHBOARD": "off", "BOTIFY_GATEWAY_PORT": "0"}
GIVE_UP_S = 60.0


class Gateways:
    """Two gateways; one that is killed comes back at another address."""

    def __init__(self, start_program: StartProgram, http: httpx.Client) -> None:
        self.start_program, self.started = start_program, 0
        self.http = http  # one: a client of its own for each call costs more than the call
        self.programs = [self.start(), self.start()]

    def start(self) -> Program:
        self.started += 1
        return self.start_program("botify.services.gateway", f"gateway-{self.started}", GATEWAY)

    def kill(self, at: int) -> None:
        self.programs[at].kill()
        self.programs[at] = self.start()

    def url(self, at: int) -> str | None:
        log = self.programs[at].log
        found = re.search(r"serving on (http://\S+)", log.read_text()) if log.exists() else None
        return found and found[1]

    def tell(self, user: str, draw: random.Random) -> None:
        """Tell what a new user does, again and again until it is taken."""
        for at in range(LISTENS + 1):
            kind = "like" if at == 0 else "listen"
            event = {"user": user, "item": draw.randrange(50), "id": f"{user} {at}", "kind": kind}
            give_up_s = time.monotonic() + GIVE_UP_S
            while not self.takes(event, draw.randrange(2)):
                assert time.monotonic() < give_up_s, f"no gateway takes {event}"
                time.sleep(0.1)

    def takes(self, event: dict[str, object], at: int) -> bool:
        if (url := self.url(at)) is None:
            return False
        try:
            answer = self.http.post(f"{url}/v1/events", json=event)
        except httpx.TransportError:
            return False
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200


def test_new_users_are_neither_lost_nor_swapped(
    settings: Settings, stack: EmbeddedStack, start_program: StartProgram, start_worker: StartWorker
) -> None:
    draw = random.Random(33)
    users = [str(uuid.UUID(int=draw.getrandbits(128), version=4)) for _ in range(USERS)]
    workers, began_s = [start_worker("worker-0")], time.monotonic()
    with httpx.Client(timeout=5) as http, ThreadPoolExecutor(CLIENTS) as pool:
        gateways, told = Gateways(start_program, http), []
        eventually(lambda: gateways.url(0) and gateways.url(1), 60, "two gateways")
        for number, user in enumerate(users):
            time.sleep(max(0.0, began_s + number / USERS_PER_S - time.monotonic()))
            told.append(pool.submit(gateways.tell, user, random.Random(number)))
            match number:
                case 40 | 180:
                    gateways.kill(number // 100)
                case 80 | 220:
                    workers.append(start_worker(f"worker-{len(workers)}"))
                    workers[-2].kill()
                case 120:
                    stack.valkey.kill()
                    stack.valkey.start()
        for one in told:
            one.result(timeout=GIVE_UP_S)
    caught_up(settings)
    eventually(lambda: verify(settings).ok, CATCH_UP_S, "state that equals a fold of the topics")
    redis = connect(settings)
    reader = StateReader(redis, settings)
    numbers = [reader.number_of(UserIds(), user) for user in users]
    states, opinions = reader.users(numbers), reader.opinions(numbers)
    assert len(set(numbers)) == len(users)
    assert reader.names(numbers) == users
    assert [state and state.listens for state in states] == [LISTENS] * len(users)
    assert [[kind for _, _, kind in one] for one in opinions] == [["like"]] * len(users)
    redis.close()
