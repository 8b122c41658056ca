"""Writes the dashboards to grafana/dashboards, which Grafana provisions: `make dashboards`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from include.grafana import fraud, model, monitoring
from include.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "grafana"
DASHBOARDS = {"monitoring": monitoring.dashboard, "fraud": fraud.dashboard, "model": model.dashboard}


def dashboard(name: str) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    content: dict[str, Any] = json.loads(json.dumps(DASHBOARDS[name]().build(), cls=JSONEncoder))
    for number, panel in enumerate(content["panels"], start=1):
        panel["id"] = number
    return content


def files() -> dict[Path, str]:
    """What is written where."""
    return {
        FOLDER / "dashboards" / f"{name}.json": json.dumps(dashboard(name), indent=1, ensure_ascii=False)
        + "\n"
        for name in DASHBOARDS
    }


def main() -> None:
    for path, text in files().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
