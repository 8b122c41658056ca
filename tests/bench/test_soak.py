"""The soak's watch sees a platform's processes, connections and files, and its figures say what grows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping

import psutil
import psycopg
import pytest

from include.bench import soak
from include.bench.soak import Sample
from include.platform.processes import mark

HOARDER = """
import time
kept = bytearray(80 * 2**20)
kept[::4096] = bytes([1]) * (80 * 256)
print(1, flush=True)
time.sleep(60)
"""


def hoarder(variables: Mapping[str, str], *arguments: str) -> subprocess.Popen:
    """A process that holds 80 MiB."""
    environment = os.environ | variables
    process = subprocess.Popen(
        [sys.executable, "-c", HOARDER, *arguments], env=environment, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    return process


@pytest.fixture
def processes(postgres):
    started = [
        hoarder(mark(postgres), "spark_jobs/fraud_stream.py"),
        hoarder({"FRAUDSTREAM_HOME": str(postgres.home)}),  # a user's own
    ]
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.services
def test_a_sample_counts_the_platforms_own_processes_only(clean_postgres, processes):
    checkpoints = clean_postgres.home / "checkpoints" / "fraud_stream" / "offsets"
    checkpoints.mkdir(parents=True, exist_ok=True)
    before = soak.sample(clean_postgres, time.monotonic())
    (checkpoints / "1").touch()
    with psycopg.connect(clean_postgres.conninfo("owner")):
        after = soak.sample(clean_postgres, time.monotonic())
    (checkpoints / "1").unlink()
    assert 80 < before.memory["fraud stream"] < 150
    assert sum(before.memory.values()) < 160 + before.memory.get("PostgreSQL", 0)
    assert before.counts["processes"] >= 1 and before.counts["open files"] > 2
    assert after.counts["connections"] == before.counts["connections"] + 1
    assert after.counts["files on disk"] == before.counts["files on disk"] + 1
    assert before.counts["rows"] == 0


def test_a_process_belongs_to_what_its_command_line_names():
    for word, name in (("spark_jobs/producer.py", "producer"), ("nothing known", soak.OTHERS)):
        process = hoarder({}, word)
        try:
            own = psutil.Process(process.pid)
            own.parents = list  # the test's own ancestors may have any name
            assert soak.group(own) == name
        finally:
            process.kill()
            process.wait()


def samples(memory_gain: float = 0.0) -> list[Sample]:
    """Two hours in which Kafka gains so many MiB an hour."""
    counts = dict.fromkeys(soak.COUNTED, 7)
    times = range(0, 7_200, 30)
    return [Sample(t, {"Kafka": 300 + memory_gain * t / 3600, "MLflow": 90.0}, counts) for t in times]


def test_growth_is_the_gain_in_an_hour():
    flat, growing = samples(), samples(24)
    for series, gain in ((flat, 0), (growing, 24)):
        slope = soak.growth([s.seconds for s in series], [s.memory["Kafka"] for s in series])
        assert slope == pytest.approx(gain, abs=1e-6)


def test_the_summary_names_what_grows():
    lines = list(soak.summary(samples(24)))
    assert "Kafka, MiB: 300 at the start, 348 at the end, +24.0 an hour" in lines
    assert "MLflow, MiB: 90 at the start, 90 at the end, +0.0 an hour" in lines
    assert "open files: 7 at the start, 7 at the end, +0.0 an hour" in lines


def test_the_plot_has_a_curve_for_each_part_that_runs_and_for_each_count(tmp_path):
    above, below = soak.plot(samples()).axes
    assert {line.get_label() for line in above.lines} == {"Kafka", "MLflow"}
    assert {line.get_label() for line in below.lines} == set(soak.COUNTED) - {"rows"}


@pytest.mark.services
def test_a_child_that_hides_its_environment_is_counted(clean_postgres):
    environment = os.environ | mark(clean_postgres)
    before = soak.sample(clean_postgres, time.monotonic()).counts["processes"]
    parent = subprocess.Popen(["sh", "-c", "env -i sleep 60; true"], env=environment)
    try:
        deadline = time.monotonic() + 20
        while not psutil.Process(parent.pid).children() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert soak.sample(clean_postgres, time.monotonic()).counts["processes"] == before + 2
    finally:
        for child in psutil.Process(parent.pid).children():
            child.kill()
        parent.wait()
