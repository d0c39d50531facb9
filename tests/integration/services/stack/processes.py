"""Shared by the tests of the stack: waiting with a deadline, and processes in other directories."""

import os
import subprocess
import sys
import time

from botify.services.stack.record import StackRecord

DEADLINE_S = 60.0


def wait_for(condition, what, deadline_s=DEADLINE_S):
    give_up = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < give_up, f"no {what} within {deadline_s:.0f} s"
        time.sleep(0.02)
    return value


def python(home, code):
    """Run Python code with `home` as the data directory, and without external servers."""
    env = {name: value for name, value in os.environ.items() if name not in ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL")}
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, env={**env, "BOTIFY_HOME": str(home)})  # noqa: S603 - the test's own code


def ready_record(home, process):
    """Wait until the stack of a process is ready."""

    def ready():
        assert process.poll() is None, "the owner of the stack ended"
        record = StackRecord.read(home)
        return record if record is not None and record.ready else None

    return wait_for(ready, "ready stack")
