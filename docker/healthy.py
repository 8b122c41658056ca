"""Health check of a container: exit status 0 when a URL answers 200.

    python docker/healthy.py URL [COMPONENT]

With COMPONENT, Airflow's health answer at URL must call that component healthy, too.
"""

import json
import sys
import urllib.request


def main(url: str, component: str | None = None) -> int:
    # No answer, or one that is not 200, ends with a traceback and exit status 1.
    with urllib.request.urlopen(url, timeout=5) as answer:
        if component is None:
            return 0
        state = json.load(answer).get(component, {}).get("status")
    if state != "healthy":
        print(f"{component} is {state}")
    return int(state != "healthy")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
