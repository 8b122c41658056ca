"""How a DAG launches one of the jobs in `spark_jobs/`: SparkSubmitOperator with what every job needs."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Context

from include.operations.jobs import wait_while_held
from include.platform import jars, spark
from include.settings import load
from include.streams import STREAMS

POOL = "streams"

# Without a start date, the first two runs of an @continuous DAG get the same logical date: the second is never made.
STREAM_START = datetime(2026, 1, 1, tzinfo=UTC)


class SparkJob(SparkSubmitOperator):
    """Runs one of our jobs, and waits before the launch while an operator keeps a stream stopped."""

    def execute(self, context: Context) -> None:
        if self.task_id in STREAMS:
            wait_while_held(load(), self.task_id)
        super().execute(context)


def spark_job(name: str, arguments: list[str] | None = None, retries: int = 0, **lineage: Any) -> SparkJob:
    """A task that runs `spark_jobs/<name>.py` until it ends.

    The master comes from the connection `spark_default`. The task waits in the pool `streams`, so that
    endless tasks never take the slots of the others, and has no time-out. Its temporary files are in a folder of
    its own, which the next start empties of what a killed driver left. Its failure is no incident by itself: it starts
    again, and a stream that does not is noticed by `include.operations.watch`.

    Args:
        lineage: `inlets` and `outlets`, lists of assets.
    """
    temporary = load().home / "tmp" / name
    return SparkJob(
        task_id=name,
        name=name,
        application=str(spark.job_file(name)),
        application_args=arguments,
        conn_id="spark_default",
        jars=",".join(jars.spark_classpath()),
        files=str(spark.LOGGING),
        driver_memory=spark.DRIVER_MEMORY,
        conf={
            "spark.ui.enabled": "false",
            "spark.driver.extraJavaOptions": spark.java_options(temporary),
        },
        env_vars={"SPARK_LOCAL_DIRS": str(temporary), "TMPDIR": str(temporary)},
        on_execute_callback=lambda context: empty(temporary),
        on_failure_callback=None,
        on_success_callback=None,
        pool=POOL,
        retries=retries,
        retry_delay=timedelta(seconds=5),
        verbose=False,
        **lineage,
    )


def empty(folder: Path) -> None:
    """Makes a folder, without what was in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
