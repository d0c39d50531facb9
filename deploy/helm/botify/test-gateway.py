"""Ask a gateway until it serves: arguments are its address and for how many seconds to wait."""

import os
import sys
import time
import urllib.error
import urllib.request

address, wait_s = sys.argv[1], float(sys.argv[2])
give_up = time.monotonic() + wait_s
headers = {"Authorization": f"Bearer {token}"} if (token := os.environ.get("BOTIFY_GATEWAY_TOKEN")) else {}
for path in ("/readyz", "/metrics"):
    while True:
        try:
            request = urllib.request.Request(address + path, headers=headers)  # noqa: S310 - http, of the chart
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                print(path, answer.status)  # noqa: T201 - the log of the pod
                break
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {error.read(2000).decode(errors='replace')}"
        except OSError as error:
            problem = str(error)
        if time.monotonic() > give_up:
            sys.exit(f"{address}{path}: {problem}")
        time.sleep(1)
