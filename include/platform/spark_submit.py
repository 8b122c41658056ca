"""How a DAG launches one of the jobs in `spark_jobs/`: SparkSubmitOperator with what every job needs."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

from include.platform import jars, spark
from include.settings import load

POOL = "streams"

# Without a start date, the first two runs of an @continuous DAG get the same logical date: the second is never made.
STREAM_START = datetime(2026, 1, 1, tzinfo=UTC)


def spark_job(name: str, arguments: list[str] | None = None, retries: int = 0) -> SparkSubmitOperator:
    """A task that runs `spark_jobs/<name>.py` until it ends.

    The master comes from the connection `spark_default`. The task waits in the pool `streams`, so that
    endless tasks never take the slots of the others, and has no time-out. Its temporary files are in a folder of
    its own, which the next start empties of what a killed driver left.
    """
    temporary = load().home / "tmp" / name
    return SparkSubmitOperator(
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
        pool=POOL,
        retries=retries,
        retry_delay=timedelta(seconds=5),
        verbose=False,
    )


def empty(folder: Path) -> None:
    """Makes a folder, without what was in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
