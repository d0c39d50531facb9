"""A running process of ours, asked over HTTP."""

import re
import urllib.error
import urllib.request

from botify.core.settings import Settings


def get(settings: Settings, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{settings.metrics_port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def is_ready(settings: Settings) -> bool:
    return get(settings, "/readyz")[0] == 200 == get(settings, "/healthz")[0]


def samples(settings: Settings) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in get(settings, "/metrics")[1].splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def families(exposition: str) -> set[str]:
    """Return the names of the metrics in Prometheus' text format, those without a sample included."""
    return set(re.findall(r"^# TYPE (\w+) ", exposition, re.MULTILINE))
