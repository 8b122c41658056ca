"""The record of a campaign: its rounds as JSON, added up."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from include.faults.campaign import Round

COUNTS = (
    "acknowledged",
    "aborted",
    "offsets",
    "without_record",
    "transactions",
    "dead_letters",
    "duplicates",
    "labels",
    "scores",
    "commits",
)
WRONG = ("lost", "duplicated", "unaccounted", "stale_commits", "repeated_ranges", "wrong_features")


def as_json(done: Round) -> dict[str, Any]:
    """One round for the record."""
    counted = asdict(done.books)
    return {
        "started": done.started.isoformat(timespec="seconds"),
        "seconds": round(done.seconds, 1),
        "first_commit_seconds": round(done.first_commit_seconds, 1),
        "machine": {"cores": os.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30)},
        "seed": done.plan.seed,
        "good": done.good,
        **{name: counted[name] for name in (*COUNTS, *WRONG)},
        "planned": done.planned,
        "faults": [
            {
                "kind": fault.kind,
                "family": fault.family,
                "stream": fault.stream,
                "measured": fault.measured,
                "recovered": None if fault.recovered is None else round(fault.recovered, 2),
            }
            for fault in done.faults
        ],
        "problems": done.books.problems + done.failures,
    }


def load(path: Path) -> list[dict[str, Any]]:
    """The rounds of a record; none when there is no file yet."""
    return json.loads(path.read_text())["rounds"] if path.exists() else []


def save(path: Path, rounds: Sequence[dict[str, Any]]) -> None:
    """Writes the record, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps({"total": total(rounds), "rounds": list(rounds)}, indent=1))
    part.replace(path)


def total(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All rounds added up; recovery in seconds over all of them, for each kind of fault."""
    faults = [fault for summary in rounds for fault in summary["faults"]]
    kinds = sorted({(fault["family"], fault["kind"]) for fault in faults})
    return {
        "rounds": len(rounds),
        "good": all(summary["good"] for summary in rounds),
        "hours": round(sum(summary["seconds"] for summary in rounds) / 3600, 2),
        **{name: sum(summary.get(name, 0) for summary in rounds) for name in (*COUNTS, *WRONG)},
        **{
            f"{family}s": sum(fault["family"] == family for fault in faults)
            for family in ("kill", "pause", "cut")
        },
        "not_injected": sum(max(0, summary["planned"] - _injected(summary)) for summary in rounds),
        "recovery": {
            "all faults": recovery(faults),
            "all kills": recovery([fault for fault in faults if fault["family"] == "kill"]),
            **{kind: recovery([fault for fault in faults if fault["kind"] == kind]) for _, kind in kinds},
        },
    }


def _injected(summary: dict[str, Any]) -> int:
    return sum(fault["measured"] for fault in summary["faults"])


def recovery(faults: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many were injected, how many recovered on their own, and p50, p95 and maximum of the seconds that took."""
    seconds = sorted(fault["recovered"] for fault in faults if fault["recovered"] is not None)
    times: dict[str, Any] = {"injected": len(faults), "measured": len(seconds)}
    if seconds:
        times |= {"p50": quantile(seconds, 0.5), "p95": quantile(seconds, 0.95), "max": seconds[-1]}
    return times


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
