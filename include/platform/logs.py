"""Finds the log of a service, or of the newest task of a DAG, and deletes old ones."""

from __future__ import annotations

from datetime import datetime
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


def delete_old(settings: Settings, before: datetime) -> int:
    """Deletes Airflow's logs that nobody has written to since then; returns how many.

    The newest of each DAG stays: a stream's task lives for months and may have nothing to say.
    """
    keep = set(_tasks(settings).values())
    deleted = 0
    for root in (settings.home / "logs" / "airflow", settings.home / "airflow" / "logs"):
        for path in list(root.rglob("*.log")):
            if path not in keep and not path.is_symlink() and path.stat().st_mtime < before.timestamp():
                path.unlink()
                deleted += 1
                _delete_empty(path.parent, root)
    return deleted


def _delete_empty(folder: Path, root: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
