"""Writes the dashboards and alert rules to grafana/, which Grafana provisions: `make dashboards`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from include.grafana import alerting, fraud, model, monitoring
from include.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "grafana"
HEADER = "# Written by `make dashboards` from include/grafana/alerting.py.\n"
DASHBOARDS = {"monitoring": monitoring.dashboard, "fraud": fraud.dashboard, "model": model.dashboard}


def dashboard(name: str) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    content: dict[str, Any] = json.loads(json.dumps(DASHBOARDS[name]().build(), cls=JSONEncoder))
    for number, panel in enumerate(content["panels"], start=1):
        panel["id"] = number
    return without_old_defaults(content)


def without_old_defaults(content: dict[str, Any]) -> dict[str, Any]:
    """Without what the SDK of Grafana 11.6 adds by itself and the schema of Grafana 12.4 does not have."""
    for panel in content["panels"]:
        if panel["type"] == "table":
            panel["options"].pop("footer", None)
    for variable in content["templating"]["list"]:
        for key in ("auto", "auto_min", "auto_count"):
            variable.pop(key, None)
    return content


def files() -> dict[Path, str]:
    """What is written where."""
    dashboards = {
        FOLDER / "dashboards" / f"{name}.json": json.dumps(dashboard(name), indent=1, ensure_ascii=False)
        + "\n"
        for name in DASHBOARDS
    }
    folder = FOLDER / "provisioning" / "alerting"
    alerts = {
        folder / f"{name}.yaml": HEADER
        + yaml.dump(content, Dumper=_Yaml, sort_keys=False, allow_unicode=True, width=200)
        for name, content in (
            ("rules", alerting.rules()),
            ("contact-points", alerting.receivers()),
            ("policies", alerting.policies()),
        )
    }
    return dashboards | alerts


class _Yaml(yaml.SafeDumper):
    """Texts of several lines as they are."""


_Yaml.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def main() -> None:
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
