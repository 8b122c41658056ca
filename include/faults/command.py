"""What `fraudstream faults` does with its options, and how it shows a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from include.faults import record
from include.faults.campaign import Plan, run_round
from include.faults.kinds import Kind
from include.faults.platform_kinds import PLATFORM_KINDS
from include.faults.platform_stack import PlatformStack


class UnknownKind(ValueError):
    """There is no such kind of fault; the message lists those that there are."""


BARE = Plan()
AIRFLOW = Plan(
    20_000,
    kills=8,
    pauses=12,
    cuts=4,
    seconds=2_700,
    kinds=tuple(PLATFORM_KINDS.values()),
    stack=PlatformStack,
)


def chosen(wanted: str | None, known: Iterable[Kind[Any, Any]]) -> tuple[Kind[Any, Any], ...]:
    """The kinds that a comma-separated list names; all without one. A family's name stands for its kinds.

    Raises:
        UnknownKind
    """
    if wanted is None:
        return tuple(known)
    kinds: dict[str, Kind[Any, Any]] = {}
    for name in wanted.split(","):
        named = {kind.name: kind for kind in known if name in (kind.name, kind.family)}
        if not named:
            raise UnknownKind(
                f"no fault is called {name!r}; there are {', '.join(kind.name for kind in known)}"
            )
        kinds |= named
    return tuple(kinds.values())


def campaign(
    plan: Plan, rounds: int, file: Path | None, keep: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Runs rounds, each with a seed of its own, and returns their total with that of the file's earlier ones.

    The file has every round that ended. The first round that is not good is the last.
    """
    done = record.load(file) if file else []
    for _ in range(rounds):
        seed = plan.seed + len(done)
        say(f"round {len(done) + 1}, seed {seed}")
        result = run_round(replace(plan, seed=seed), say, keep=keep)
        done.append(record.as_json(result))
        if file:
            record.save(file, done)
        if not result.good:
            break
    return record.total(done) | {"problems": [problem for summary in done for problem in summary["problems"]]}


def show(total: dict[str, Any], console: Console) -> None:
    """Prints a total as tables."""
    table = Table(
        "Fault",
        "Injected",
        "Recovery p50",
        "p95",
        "Max",
        title="Seconds to the next commit",
        title_justify="left",
    )
    for name, recovery in total["recovery"].items():
        times = [f"{recovery[key]:.1f}" if key in recovery else "" for key in ("p50", "p95", "max")]
        table.add_row(name, f"{recovery['injected']:,}", *times)
    console.print(table)
    console.print(_counts(total, record.COUNTS))
    console.print(_counts(total, record.WRONG), style="green" if total["good"] else "red")
    for problem in total["problems"]:
        console.print(problem, style="red", markup=False)
    if total["not_injected"]:
        console.print(f"{total['not_injected']} faults were not injected: the time was up", style="yellow")


def _counts(total: dict[str, Any], names: Iterable[str]) -> str:
    return "   ".join(f"{name.replace('_', ' ')}: {total[name]:,}" for name in names)
