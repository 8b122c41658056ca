"""Watches a running platform for hours: memory, connections, open files and files on disk, into a CSV and a plot.

Run beside a platform that `make up` started: `.venv/bin/python -m include.bench.soak --minutes 120`.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import psycopg
from matplotlib.figure import Figure

from include.platform import processes
from include.settings import Settings, load
from include.sql import one_row
from include.streams import FRAUD_STREAM, TRANSACTION_STREAM

# The first whose word stands in a process's command line names it; children go to their parents' group otherwise.
GROUPS = {
    "transaction stream": TRANSACTION_STREAM,
    "fraud stream": FRAUD_STREAM,
    "producer": "spark_jobs/producer",
    "Kafka": "kafka.Kafka",
    "PostgreSQL": "postgres",
    "MLflow": "mlflow",
    "Streamlit": "streamlit",
    "Airflow": "airflow",
}
OTHERS = "others"
COUNTED = ("connections", "open files", "processes", "files on disk", "rows")
CHECKPOINTS, LOGS = "checkpoints", "logs"

CONNECTIONS = "select sum(numbackends)::int from pg_stat_database"
ROWS = f"""
select coalesce(sum(next_offset - first_offset), 0)::bigint from shop.stream_offsets
where stream = '{FRAUD_STREAM}'"""


class Sample(NamedTuple):
    """The platform at a time: seconds since the start, MiB of each group (proportional set size), and counts."""

    seconds: float
    memory: dict[str, float]
    counts: dict[str, int]


def sample(settings: Settings, began: float) -> Sample:
    """Measures once.

    Raises:
        psycopg.Error: PostgreSQL cannot be asked.
    """
    memory: dict[str, float] = defaultdict(float)
    files = running = 0
    for process in _with_children(processes.ours(settings)):
        with suppress(psutil.Error):  # it ended meanwhile
            used = process.memory_full_info().pss / 2**20
            files += process.num_fds()
            memory[group(process)] += used
            running += 1
    with psycopg.connect(settings.conninfo("owner")) as connection:
        connections, rows = (one_row(connection.execute(query))[0] for query in (CONNECTIONS, ROWS))
    kept = sum(1 for folder in (CHECKPOINTS, LOGS) for _ in (settings.home / folder).rglob("*"))
    return Sample(
        time.monotonic() - began,
        dict(memory),
        dict(zip(COUNTED, (connections, files, running, kept, rows), strict=True)),
    )


def _with_children(roots: list[psutil.Process]) -> set[psutil.Process]:
    """Processes and their descendants: those of PostgreSQL and Airflow write their titles over their environment."""
    every = set(roots)
    for process in roots:
        with suppress(psutil.NoSuchProcess):
            every |= set(process.children(recursive=True))
    return every


def group(process: psutil.Process) -> str:
    """The part of the platform that a process belongs to."""
    for ancestor in (process, *process.parents()):
        line = " ".join(ancestor.cmdline())
        for name, word in GROUPS.items():
            if word in line:
                return name
    return OTHERS


def watch(settings: Settings, minutes: float, every: float) -> Iterator[Sample]:
    """A sample every so many seconds, for so many minutes."""
    began = time.monotonic()
    while (now := time.monotonic()) < began + minutes * 60:
        yield sample(settings, began)
        time.sleep(max(0.0, every - (time.monotonic() - now)))


def growth(seconds: Sequence[float], values: Sequence[float]) -> float:
    """What values gain in an hour: the slope of the least squares line through them."""
    return float(np.polyfit(seconds, values, 1)[0] * 3600)


def plot(samples: Sequence[Sample]) -> Figure:
    """Memory of each part, and the counts, over the minutes."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    minutes = [sample.seconds / 60 for sample in samples]
    for name in (*GROUPS, OTHERS):
        values = [sample.memory.get(name, np.nan) for sample in samples]
        if not np.isnan(values).all():
            above.plot(minutes, values, label=name)
    above.set(
        ylabel="memory, MiB", title="Memory of each part of the platform (proportional set size)", ylim=0
    )
    for name in COUNTED[:-1]:
        below.plot(minutes, [sample.counts[name] for sample in samples], label=name)
    below.set(xlabel="minutes", ylabel="number", ylim=0)
    below.set_title("Database connections, open files, processes; files of checkpoints and logs")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def summary(samples: Sequence[Sample]) -> Iterator[str]:
    """One line for each curve: at the start, at the end, and the gain in an hour over the second half."""
    half = samples[len(samples) // 2 :]
    seconds = [sample.seconds for sample in half]
    curves: dict[str, list[float]] = {
        f"{name}, MiB": [sample.memory.get(name, 0.0) for sample in samples] for name in (*GROUPS, OTHERS)
    }
    curves |= {name: [sample.counts[name] for sample in samples] for name in COUNTED}
    for name, values in curves.items():
        gain = round(growth(seconds, values[-len(half) :]), 1) + 0.0  # never -0.0
        yield f"{name}: {values[0]:,.0f} at the start, {values[-1]:,.0f} at the end, {gain:+,.1f} an hour"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m include.bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--every", type=float, default=30, help="seconds between two samples (default: 30)")
    parser.add_argument("--csv", type=Path, default=Path("soak.csv"))
    parser.add_argument("--plot", type=Path, default=Path("soak.png"))
    options = parser.parse_args(argv)
    names = (*GROUPS, OTHERS)
    samples = []
    with options.csv.open("w", newline="") as target:
        table = csv.writer(target)
        table.writerow(["seconds", *names, *COUNTED])
        for current in watch(load(), options.minutes, options.every):
            samples.append(current)
            memory = [round(current.memory.get(name, 0), 1) for name in names]
            table.writerow([round(current.seconds), *memory, *current.counts.values()])
            target.flush()
    plot(samples).savefig(options.plot, dpi=110)
    sys.stdout.writelines(f"{line}\n" for line in summary(samples))
    return 0


if __name__ == "__main__":
    sys.exit(main())
