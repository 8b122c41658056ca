"""What the platform leaves on the disk and in Airflow's database, deleted when it is old."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from include.operations.housekeeping import kept_from
from include.platform import airflow, logs
from include.settings import Settings

log = logging.getLogger(__name__)


def delete_old_records(settings: Settings, now: datetime | None = None) -> None:
    """Deletes logs of tasks and Airflow's records that are older than `keep_logs_days`, and logs how many.

    Raises:
        include.platform.airflow.AirflowError: Airflow's database could not be cleaned.
    """
    before = kept_from(settings.keep_logs_days, now or datetime.now(UTC))
    if before is None:
        return
    log.info(
        "deleted %d logs that nothing was written to since %s", logs.delete_old(settings, before), before
    )
    airflow.clean(settings, before)
    log.info("deleted Airflow's records of runs that began before that")
