"""What `fraudstream faults` does with its options, and how it shows a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from include.faults import record
from include.faults.campaign import Plan, run
from include.faults.kinds import KINDS


class UnknownKind(ValueError):
    """There is no such kind of fault; the message lists those that there are."""


def kinds(wanted: str | None) -> tuple[str, ...]:
    """The kinds that a comma-separated list names; all without one. A family's name stands for its kinds.

    Raises:
        UnknownKind
    """
    if wanted is None:
        return tuple(KINDS)
    chosen: list[str] = []
    for name in wanted.split(","):
        named = [kind.name for kind in KINDS.values() if name in (kind.name, kind.family)]
        if not named:
            raise UnknownKind(f"no fault is called {name!r}; there are {', '.join(KINDS)}")
        chosen += named
    return tuple(dict.fromkeys(chosen))


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
        result = run(replace(plan, seed=seed), say, keep=keep)
        done.append(record.as_json(result))
        if file:
            record.save(file, done)
        if not result.good:
            break
    return record.total(done) | {"problems": [problem for each in done for problem in each["problems"]]}


def show(total: dict[str, Any], console: Console) -> None:
    """Prints a total as tables."""
    table = Table(
        "Fault",
        "Thrown",
        "Recovery p50",
        "p95",
        "Max",
        title="Seconds to the next commit",
        title_justify="left",
    )
    for name, each in total["recovery"].items():
        times = [f"{each[key]:.1f}" if key in each else "" for key in ("p50", "p95", "max")]
        table.add_row(name, f"{each['thrown']:,}", *times)
    console.print(table)
    console.print(_counts(total, record.COUNTS))
    console.print(_counts(total, record.WRONG), style="green" if total["good"] else "red")
    for problem in total["problems"]:
        console.print(problem, style="red", markup=False)
    if total["not_thrown"]:
        console.print(f"{total['not_thrown']} faults were not thrown: the time was up", style="yellow")


def _counts(total: dict[str, Any], names: Iterable[str]) -> str:
    return "   ".join(f"{name.replace('_', ' ')}: {total[name]:,}" for name in names)
