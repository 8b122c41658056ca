"""What `fraudstream bench` runs, and how it shows the result."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module

import psutil
from rich.table import Table

from include.bench.compare import BenchmarkFailed, Comparison

__all__ = ["SUITES", "BenchmarkFailed", "run", "tables"]

SUITES = ("generator", "decode", "score", "reasons", "customers", "store", "streams")


def run(suites: tuple[str, ...], starting: Callable[[str], None] = lambda suite: None) -> dict:
    """The comparisons of some of `SUITES`, with the date and the machine; ready for JSON.

    Args:
        starting: hears which one begins.

    Raises:
        ServerFailed, BenchmarkFailed
    """
    load = os.getloadavg()[0]
    comparisons: list[Comparison] = []
    for suite in suites:
        starting(suite)
        comparisons += import_module(f"include.bench.{suite}").run()
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "load_before": round(load, 1),
        "comparisons": [asdict(each) for each in comparisons],
    }


def tables(result: dict) -> Iterator[Table | str]:
    """What to print, in order."""
    yield (
        f"{result['date']}, {result['cores']} cores, {result['memory_gib']} GiB, Python {result['python']}, "
        f"load before {result['load_before']}: medians over rounds in which both sides took turns"
    )
    table = Table("What", "Ours", "Other", "µs ours", "µs other", "A second, ours", "Times faster", "Between")
    for each in result["comparisons"]:
        table.add_row(
            each["what"],
            each["ours"],
            each["other"],
            f"{each['ours_microseconds']:,.2f}",
            f"{each['other_microseconds']:,.2f}",
            f"{1e6 / each['ours_microseconds']:,.0f} {each['item']}s",
            f"{each['ratio']:,.1f}",
            f"{each['lowest']:,.1f} and {each['highest']:,.1f}",
        )
    yield table
