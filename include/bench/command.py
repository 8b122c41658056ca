"""What `fraudstream bench` runs, and how it shows the result."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import psutil
from rich.table import Table

from include.bench.compare import Comparison


def measure(suites: Iterable[str], starting: Callable[[str], None] = lambda suite: None) -> dict[str, Any]:
    """The comparisons of some of `SUITES`, with the date and the machine; ready for JSON.

    Args:
        starting: called with each suite's name.

    Raises:
        ServerFailed, BenchmarkFailed
    """
    load = os.getloadavg()[0]
    comparisons: list[Comparison] = []
    for suite in suites:
        starting(suite)
        comparisons += import_module(f"include.bench.{suite}").measure()
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "load_before": round(load, 1),
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }


def tables(result: dict[str, Any]) -> Iterator[Table | str]:
    """What to print, in order."""
    yield (
        f"{result['date']}, {result['cores']} cores, {result['memory_gib']} GiB, Python {result['python']}, "
        f"load before {result['load_before']}: medians over rounds in which both sides took turns"
    )
    table = Table("What", "Ours", "Other", "µs ours", "µs other", "A second, ours", "Times faster", "Between")
    for comparison in result["comparisons"]:
        table.add_row(
            comparison["what"],
            comparison["ours"],
            comparison["other"],
            f"{comparison['ours_microseconds']:,.2f}",
            f"{comparison['other_microseconds']:,.2f}",
            f"{1e6 / comparison['ours_microseconds']:,.0f} {comparison['item']}s",
            f"{comparison['ratio']:,.1f}",
            f"{comparison['lowest']:,.1f} and {comparison['highest']:,.1f}",
        )
    yield table
