"""Servers that the tests here may kill, and a deployment with impatient workers."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from botify.core.settings import Settings
from botify.services.stack.embedded import EmbeddedStack
from tests.chaos.programs import SESSION_TIMEOUT_S, Program
from tests.integration.services.gateway import conftest as gateways
from tests.support import deployed, write_catalogue

TRACKS = 50
PATIENT_S = 10
"""Session timeout where claims must stay as they are: nobody is taken for dead while the machine is busy."""

StartProgram = StartWorker = Callable[..., Program]
gateway = gateways.gateway


@pytest.fixture
def settings(stack: EmbeddedStack, tmp_path: Path) -> Settings:
    """A deployment of this test's own, with a catalogue of `TRACKS` tracks."""
    own = deployed(stack.settings, tmp_path, session_timeout_s=SESSION_TIMEOUT_S)
    write_catalogue(own, TRACKS)
    return own


@pytest.fixture
def start_program(settings: Settings) -> Iterator[StartProgram]:
    """Start programs by module and name; those that are left are stopped at the end."""
    programs: list[Program] = []

    def start(module: str, name: str, env: dict[str, str] | None = None, **changes: object) -> Program:
        programs.append(Program(settings.with_(**changes), module, name, env))
        return programs[-1]

    yield start
    for program in programs:
        program.stop()
        print(f"--- {program.log.name}", program.log.read_text(errors="replace")[-4000:])  # shown where the test failed


@pytest.fixture
def start_worker(start_program: StartProgram) -> StartWorker:
    return partial(start_program, "botify.streams.worker")
