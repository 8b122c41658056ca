"""Signals and progress of longer commands."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from include.imports.importer import Report


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """An event that SIGINT and SIGTERM set while the block runs; a second SIGINT interrupts as usual."""
    stopping = Event()

    def stop(number: int, _frame: FrameType | None) -> None:
        stopping.set()
        signal.signal(number, before[number])

    before = {int(number): signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def end_on_signals() -> Iterator[None]:
    """SIGTERM ends the block as SIGINT does, by an exception, so that it stops what it started."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def import_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each phase of an import, on standard error; none where standard error is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:

        def show(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=total)
            bars.update(tasks[phase], completed=done)

        yield show


def import_report(report: Report, dry_run: bool) -> str:
    """The content of an imported file and what was sent of it, in words."""
    lines = [f"{report.transactions:,} transactions"] if report.transactions else []
    if report.first and report.last:
        lines[0] += f" from {report.first:%Y-%m-%d %H:%M:%S} to {report.last:%Y-%m-%d %H:%M:%S} UTC"
    lines.append(f"{report.labels:,} labels, {report.frauds:,} of them fraud")
    for rule, count in report.left_out.most_common():
        lines.append(f"{count:,} rows left out: {rule}")
    if report.bad_rows:
        where = f", all in {report.rejected}" if report.rejected else ""
        lines.append(f"{report.bad_rows:,} bad rows left out{where}; the first of them:")
        lines += [f"  {example}" for example in report.examples]
    if dry_run:
        for sample in report.samples:
            lines += [f"line {sample.line}: {sample.before}", f"  becomes {sample.after}"]
    lines += [f"Warning: {warning}" for warning in report.warnings]
    if dry_run:
        lines.append("Nothing was sent (--dry-run)")
    elif report.stopped:
        lines.append(
            f"Stopped: {report.sent_transactions:,} transactions and {report.sent_labels:,} labels were sent"
            + (f", {report.unacknowledged:,} of them not acknowledged" if report.unacknowledged else "")
            + ". Run it again: what is stored already counts as a duplicate"
        )
    else:
        lines.append("All sent and acknowledged. The streams store and score them: see fraudstream status")
    return "\n".join(lines)
