"""The campaign's streams are the platform's."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from include.faults import stack
from include.faults.children import Child
from include.platform import jars
from include.settings import Settings


def options(java: str) -> set[str]:
    """A driver's Java options but for its folder of temporary files, which each has for itself."""
    given = java.split()
    assert sum(argument.startswith("-Djava.io.tmpdir=") for argument in given) == 1
    return {argument for argument in given if not argument.startswith("-Djava.io.tmpdir=")}


def test_drivers_start_as_airflow_starts_them(tmp_path):
    from include.platform.spark_submit import spark_job

    operator = spark_job("fraud_stream")
    settings = Settings(_env_file=None, home=tmp_path)
    command = stack.Stream("fraud_stream", stack.JOBS["fraud_stream"], settings, 1, {})._submit()
    (ours,) = [part for part in command if part.startswith("spark.driver.extraJavaOptions=")]
    assert options(ours.partition("=")[2]) == options(operator.conf["spark.driver.extraJavaOptions"])
    assert command[-1] == operator.application
    assert ",".join(jars.spark_classpath()) in command and operator._driver_memory in command


def test_only_the_next_start_is_armed(tmp_path):
    stream = stack.Stream(
        "fraud_stream", stack.JOBS["fraud_stream"], Settings(_env_file=None, home=tmp_path), 1, {}
    )
    stream.arm("mid_copy:3")
    stream._submit()
    assert stream._variables()["FRAUDSTREAM_FAILPOINT"] == "mid_copy:3"
    assert stream._variables()["FRAUDSTREAM_FAILPOINT"] == ""


def test_what_does_not_happen_is_said_with_a_log(tmp_path):
    made = stack.BareStack(tmp_path, stack.Events(1, datetime.now(UTC)), 10)
    child = Child("child", list, dict, tmp_path / "child.log")
    with pytest.raises(stack.CampaignFailed, match=r"it comes.*see .*child.log"):
        made.wait("it comes", lambda: False, child, 0.1)
