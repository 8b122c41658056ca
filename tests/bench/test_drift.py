"""The histories that faults make; one fault is watched to its name."""

import numpy as np
import pytest

from include.bench import drift
from include.bench.drift import FAULTS, MIDNIGHT, joined, partitions
from include.bench.worlds import own
from include.bench.worlds.history import DAY
from include.training.drift import Cause

SMALL_DAYS = 30
BEGINS = MIDNIGHT + 20 * DAY


@pytest.fixture(scope="module")
def history():
    return own.simulate(1, SMALL_DAYS * 60, 60, SMALL_DAYS)


def test_every_fault_changes_only_what_comes_after_it_begins(history, monkeypatch):
    monkeypatch.setattr(drift, "DAYS", SMALL_DAYS)
    monkeypatch.setattr(drift, "PER_DAY", 60)
    monkeypatch.setattr(drift, "CUSTOMERS", 60)
    for fault in FAULTS:
        faulty = fault.inject(history, BEGINS, np.random.default_rng(0))
        before, same = (made.time < BEGINS - DAY / 2 for made in (history, faulty))
        if fault.name not in ("the generator's drift", "six times the fraud"):  # these draw the world anew
            assert (faulty.time[same] == history.time[before]).all(), fault.name
            for name in ("amount", "device", "merchant_id", "user_id"):
                assert (faulty.fields[name][same] == history.fields[name][before]).all(), fault.name
        assert faulty.labels.row.max() < len(faulty) and len(faulty.fields["amount"]) == len(faulty)


def test_joined_histories_keep_each_label_with_its_payment(history):
    fraud = history.labels.row[history.labels.fraud]
    both = joined(history, history)
    assert len(both) == 2 * len(history) and (np.diff(both.time) >= 0).all()
    assert (
        np.sort(both.time[both.labels.row[both.labels.fraud]]).tolist()
        == np.sort(np.tile(history.time[fraud], 2)).tolist()
    )


def test_a_dead_partition_loses_its_customers_and_no_other_payment(history):
    fault = next(fault for fault in FAULTS if fault.name == "a dead partition")
    left = fault.inject(history, BEGINS, np.random.default_rng(0))
    gone = (history.time >= BEGINS) & (partitions(history) == 1)
    assert len(history) - len(left) == gone.sum() > 0


def test_cents_for_euros_are_named_within_a_day(monkeypatch):
    monkeypatch.setattr(drift, "PER_DAY", 300)
    monkeypatch.setattr(drift, "CUSTOMERS", 150)
    monkeypatch.setattr(drift, "DAYS", 52)
    watched = drift.watch(FAULTS[0], seed=1)
    assert watched.right and watched.health.cause == Cause.PIPELINE and watched.hours <= 24
    assert watched.health.subject.startswith("amount")
