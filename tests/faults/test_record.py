"""The record of rounds: written whole, added up, with quantiles of recovery."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from include.faults import command, record
from include.faults.books import Books
from include.faults.campaign import Fault, Plan, Round
from include.faults.kinds import KINDS


def finished(seed: int = 1, recovered: tuple = (4.0, 8.0), lost: int = 0) -> Round:
    books = Books(
        acknowledged=1_000, offsets=1_010, transactions=900, dead_letters=60, duplicates=50, lost=lost
    )
    faults = [Fault("workers", "kill", "fraud_stream", 0.0, True, seconds) for seconds in recovered]
    faults.append(Fault("driver_jvm", "kill", "fraud_stream", 0.0, measured=False))
    faults.append(Fault("kafka_paused", "pause", "both", 0.0, True, 3.0))
    failures = ["it did not recover"] if None in recovered else []
    started = datetime(2026, 11, 24, tzinfo=UTC)
    return Round(Plan(seed=seed), started, 360.0, 20.0, 5, faults, books, failures)


def test_rounds_add_up(tmp_path):
    path = tmp_path / "record.json"
    assert record.load(path) == []
    rounds = [record.as_json(finished()), record.as_json(finished(2, (6.0, 20.0)))]
    record.save(path, rounds)
    assert record.load(path) == rounds
    total = record.total(rounds)
    assert (total["rounds"], total["good"], total["acknowledged"], total["lost"]) == (2, True, 2_000, 0)
    assert (total["kills"], total["pauses"], total["cuts"]) == (6, 2, 0)
    assert total["hours"] == 0.2
    assert total["recovery"]["workers"] == {
        "injected": 4,
        "measured": 4,
        "p50": 6.0,
        "p95": 20.0,
        "max": 20.0,
    }
    assert total["recovery"]["driver_jvm"] == {"injected": 2, "measured": 0}
    assert total["recovery"]["all kills"]["injected"] == 6
    everything = total["recovery"]["all faults"]
    assert (everything["injected"], everything["p50"], everything["max"]) == (8, 4.0, 20.0)


def test_one_bad_round_makes_the_total_bad():
    assert not record.total([record.as_json(finished()), record.as_json(finished(lost=1))])["good"]
    bad = record.as_json(finished(recovered=(4.0, None)))
    assert not record.total([bad])["good"] and bad["problems"] == ["it did not recover"]


def test_what_was_planned_and_not_injected_is_reported():
    assert record.total([record.as_json(finished())])["not_injected"] == 5 - 3


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2), (0.95, 4), (0.25, 1), (1, 4)])
def test_a_quantile_is_a_value_that_was_measured(share, expected):
    assert record.quantile([1, 2, 3, 4], share) == expected


def test_kinds_are_chosen_by_name_or_family():
    kinds = command.BARE.kinds
    assert command.chosen(None, kinds) == tuple(KINDS.values())
    assert [kind.name for kind in command.chosen("workers,workers", kinds)] == ["workers"]
    *cuts, workers = command.chosen("cut,workers", kinds)
    assert workers.name == "workers" and {kind.family for kind in cuts} == {"cut"}
    with pytest.raises(command.UnknownKind, match="'meteor'; there are driver_jvm"):
        command.chosen("meteor", kinds)
    with pytest.raises(command.UnknownKind, match="'workers'; there are postgres_killed"):
        command.chosen("workers", command.AIRFLOW.kinds)


def test_a_total_is_shown_with_its_problems(capsys):
    from rich.console import Console

    rounds = [record.as_json(finished(lost=3))]
    problems = ["3 records missing in shop.transactions: [...]"]
    command.show(record.total(rounds) | {"problems": problems}, Console(width=120))
    shown = capsys.readouterr().out
    assert "lost: 3" in shown and "acknowledged: 1,000" in shown and problems[0] in shown and "8.0" in shown


def test_a_campaign_goes_on_where_its_record_ends_and_stops_at_the_first_bad_round(tmp_path, monkeypatch):
    seeds, path = [], tmp_path / "record.json"

    def run(plan, say, *, keep):
        seeds.append(plan.seed)
        return finished(plan.seed, lost=int(plan.seed == 12))

    monkeypatch.setattr(command, "run_round", run)
    assert command.campaign(Plan(seed=10), 2, path, False, print)["good"]
    total = command.campaign(Plan(seed=10), 3, path, False, print)
    assert seeds == [10, 11, 12] and total["rounds"] == 3 and not total["good"]
    assert len(record.load(path)) == 3
