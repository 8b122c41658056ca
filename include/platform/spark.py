"""How a Spark driver of ours is started, by Airflow or by anything else."""

from __future__ import annotations

from pathlib import Path

from include.settings import PROJECT_ROOT

JOBS = PROJECT_ROOT / "spark_jobs"
LOGGING = JOBS / "log4j2.properties"
DRIVER_MEMORY = "1g"


def job_file(name: str) -> Path:
    """The program of a job."""
    return JOBS / f"{name}.py"


def java_options(temporary: Path) -> str:
    """Options of the driver's JVM, whose temporary files go into a folder.

    The heavy work is in Python: a light compiler and collector halve the JVM's time to the first commit.
    """
    options = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
    properties = (f"-Djava.io.tmpdir={temporary}", f"-Dlog4j2.configurationFile={LOGGING}")
    return " ".join((*options, *properties))
