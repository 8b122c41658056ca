"""Sorting through files gives what sorting in memory would."""

from __future__ import annotations

import numpy as np
import pytest

from include.imports import external_sort
from include.imports.external_sort import ExternalSort


@pytest.fixture
def small(monkeypatch):
    """Runs of 100 items in blocks of 7, at most 5 merged at once: 3,000 items take three levels."""
    monkeypatch.setattr(external_sort, "RUN_ITEMS", 100)
    monkeypatch.setattr(external_sort, "BLOCK", 7)
    monkeypatch.setattr(external_sort, "MOST_RUNS", 5)


def items(ranks) -> list[tuple[int, bytes, bytes]]:
    return [(int(rank), b"key-%d" % (index % 10), b"value-%d" % index) for index, rank in enumerate(ranks)]


def through_files(folder, given) -> list:
    sorter = ExternalSort(folder)
    for item in given:
        sorter.add(*item)
    assert sorter.count == len(given)
    return list(sorter.sorted())


def test_any_order_comes_back_sorted_and_equal_ranks_as_they_came(small, tmp_path):
    given = items(np.random.default_rng(1).integers(-50, 50, 3_000))
    assert through_files(tmp_path, given) == sorted(given, key=lambda item: item[0])


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101])
def test_no_item_is_lost_at_the_ends_of_runs(small, tmp_path, count):
    given = items(range(count, 0, -1))
    assert through_files(tmp_path, given) == given[::-1]


def test_long_values_end_a_run_early(monkeypatch, tmp_path):
    monkeypatch.setattr(external_sort, "RUN_BYTES", 1_000)
    given = [(rank, b"", b"x" * 400) for rank in range(10)]
    assert through_files(tmp_path, given) == given
    assert len(list(tmp_path.iterdir())) == 4
