"""A driver that is killed leaves its files where the next start of the job finds and deletes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.platform import spark_submit
from include.settings import Settings

# A job that uses Spark, then dies as by kill -9, its JVM first.
DIES = """
import os, signal
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.driver.host", "127.0.0.1").getOrCreate()
assert spark.range(9).repartition(3).count() == 9
os.kill(os.getppid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    settings = Settings(_env_file=None, home=tmp_path / "home")
    monkeypatch.setattr(spark_submit, "load", lambda: settings)
    return spark_submit.spark_job("transaction_stream")


def test_each_job_has_a_folder_of_its_own(job, tmp_path):
    folder = str(tmp_path / "home" / "tmp" / "transaction_stream")
    assert set(job.env_vars.values()) == {folder}
    assert f"-Djava.io.tmpdir={folder} " in job.conf["spark.driver.extraJavaOptions"]
    assert spark_submit.spark_job("fraud_stream").env_vars != job.env_vars


@pytest.mark.services
def test_what_a_killed_driver_left_is_gone_at_the_next_start(job, tmp_path):
    (tmp_path / "dies.py").write_text(DIES)
    folder = Path(job.env_vars["TMPDIR"])
    (start,) = job.on_execute_callback
    start({})
    options = [f"--conf={name}={value}" for name, value in job.conf.items()]
    command = [str(Path(sys.executable).with_name("spark-submit")), *options, str(tmp_path / "dies.py")]
    environment = os.environ | job.env_vars | {"PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -9, done.stderr
    assert list(folder.glob("blockmgr-*")) and list(folder.glob("spark-*"))
    start({})
    assert list(folder.iterdir()) == []
