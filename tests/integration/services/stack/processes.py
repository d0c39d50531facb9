"""Shared by the tests of the stack: waiting with a deadline, and processes in other directories."""

import os
import subprocess
import sys

from botify.services.stack.record import StackRecord
from tests.support import eventually


def python(home, code):
    """Run Python code with `home` as the data directory, and without external servers."""
    env = {name: value for name, value in os.environ.items() if name not in ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL")}
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, env={**env, "BOTIFY_HOME": str(home)})  # noqa: S603 - the test's own code


def ready_record(home, process):
    def ready():
        assert process.poll() is None, "the owner of the stack ended"
        record = StackRecord.read(home)
        return record if record is not None and record.ready else None

    return eventually(ready, what="ready stack")
