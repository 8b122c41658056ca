"""Finds the log of a service, or of the newest task of a DAG."""

from __future__ import annotations

from pathlib import Path

from include.settings import Settings


def _tasks(settings: Settings) -> dict[str, Path]:
    """The newest log by DAG; Airflow writes `dag_id=…/run_id=…/task_id=…/attempt=N.log`."""
    newest: dict[str, Path] = {}
    for path in (settings.home / "logs" / "airflow").glob("dag_id=*/run_id=*/task_id=*/attempt=*.log"):
        dag_id = path.parts[-4].removeprefix("dag_id=")
        if dag_id not in newest or path.stat().st_mtime > newest[dag_id].stat().st_mtime:
            newest[dag_id] = path
    return newest


def names(settings: Settings) -> list[str]:
    services = {path.stem for path in (settings.home / "logs").glob("*.log")}
    return sorted(services | _tasks(settings).keys())


def find(settings: Settings, name: str) -> Path | None:
    service = settings.home / "logs" / f"{name}.log"
    return service if service.exists() else _tasks(settings).get(name)
