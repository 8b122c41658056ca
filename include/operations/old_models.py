"""Old models go from MLflow: versions that nothing refers to, with their runs and artifacts.

Each retraining leaves a run with its plots and a version with its model. What an old score or alert says stays: their
rows, and the version's row in shop.models with its hash, threshold and metrics. Whatever is interrupted is finished by
the next run.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import psycopg

from include.operations import housekeeping
from include.registry import deletion
from include.settings import Settings
from include.sql import statement

log = logging.getLogger(__name__)

NEWEST = 5  # versions that stay whatever their age


def delete_old_models(settings: Settings, now: datetime | None = None) -> list[str]:
    """Deletes versions and runs that are older than `keep_models_days`; returns what was done, a line each.

    A version stays when it has an alias, scores now, has alerts that are kept, or is among the newest few. Runs go that
    are of no version: those of the versions that were deleted, and of trainings that failed or were killed.

    Raises:
        RegistryUnavailable: MLflow does not answer; what was done before stays done.
        psycopg.Error: PostgreSQL cannot be reached.
    """
    before = housekeeping.kept_from(settings.keep_models_days, now or datetime.now(UTC))
    if before is None:
        return []
    done: list[str] = []

    def did(what: str) -> None:
        log.info("%s", what)
        done.append(what)

    for version in _unneeded(settings, before):
        if deletion.delete_version(settings, version):
            did(f"deleted version {version} of {settings.model_name} from MLflow")
    for run_id in deletion.unused_runs(settings, before):
        deletion.delete_run(settings, run_id)
        did(f"deleted the run {run_id} and its artifacts from MLflow")
    return done


def _unneeded(settings: Settings, before: datetime) -> list[int]:
    """Versions that were registered before then and are not referred to; only aliases are not looked at."""
    registered = deletion.registered(settings)
    old = [version for version in sorted(registered, reverse=True)[NEWEST:] if registered[version] < before]
    with psycopg.connect(settings.conninfo("owner")) as connection:
        in_use = {
            version
            for (version,) in connection.execute(statement("housekeeping/versions_in_use"), {"versions": old})
        }
    return [version for version in old if version not in in_use]
