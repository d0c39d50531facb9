"""All programs of a deployment, started again when they end, as by a supervisor; and what can be done to each."""

import threading
import time
from collections.abc import Callable
from random import Random

from botify.core.settings import Settings
from botify.services.stack.embedded import EmbeddedStack
from botify.services.stack.ports import find_free
from tests.chaos.programs import Program
from tests.support import Background

MODULES = {
    "worker-0": "botify.streams.worker",
    "worker-1": "botify.streams.worker",
    "learner": "botify.streams.learner",
    "recommender-0": "botify.services.recommender",
    "recommender-1": "botify.services.recommender",
    "gateway": "botify.services.gateway",
}
SERVERS = ("valkey", "kafka")
KINDS = ("kill", "freeze", "stop")
FROZEN_S = (0.5, 6.0)
"""How long something is frozen; a session timeout is 2 s."""
AWAY_S = (0.0, 2.0)
"""How long something stays away."""
POLL_S = 0.1


class Fleet(Background):
    def __init__(self, stack: EmbeddedStack, settings: Settings) -> None:
        super().__init__(self._supervise)
        self.port = find_free()
        self.ended: list[str] = []
        self._stack, self._settings = stack, settings
        self._away: set[str] = set()
        self._lock = threading.Lock()
        self._programs = {name: self._started(name) for name in MODULES}

    def hit(self, rng: Random) -> str:
        """Kill, freeze or stop something, and let it come back; return what was done."""
        name, kind = rng.choice([*MODULES, *SERVERS]), rng.choice(KINDS)
        if name in SERVERS:
            return f"{kind} {self._hit_server(name, kind, rng)}"
        with self._lock:
            program = self._programs[name]
            self._away.add(name)
        if kind == "freeze":
            program.pause()
            time.sleep(rng.uniform(*FROZEN_S))
            program.resume()
        else:
            program.kill() if kind == "kill" else program.stop()
            time.sleep(rng.uniform(*AWAY_S))
        with self._lock:
            self._away.discard(name)
        return f"{kind} {name.partition('-')[0]}"

    def __exit__(self, *_: object) -> None:
        try:
            super().__exit__()
        finally:
            for program in self._programs.values():
                program.stop()

    def _hit_server(self, name: str, kind: str, rng: Random) -> str:
        server = self._stack.valkey if name == "valkey" else self._stack.kafka
        if kind == "freeze":
            server.pause()
            time.sleep(rng.uniform(*FROZEN_S))
            server.resume()
        else:
            server.kill() if kind == "kill" else server.stop()
            time.sleep(rng.uniform(*AWAY_S))
            server.start()
        return name

    def _started(self, name: str) -> Program:
        env = {"BOTIFY_GATEWAY_PORT": str(self.port), "BOTIFY_GATEWAY_DASHBOARD": "off"}
        return Program(self._settings, MODULES[name], name, env)

    def _supervise(self) -> None:
        while not self._over.wait(POLL_S):
            with self._lock:
                for name, program in self._programs.items():
                    if name not in self._away and not program.running:
                        if program.exit_status not in (0, -9):
                            self.ended.append(f"{name} {program.exit_status}")
                        self._programs[name] = self._started(name)


def repeatedly(act: Callable[[], None], stopping: threading.Event, every_s: float) -> threading.Thread:
    """Do something again and again in a thread of its own until an event is set."""

    def body() -> None:
        while not stopping.wait(every_s):
            act()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread
