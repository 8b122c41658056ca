"""What the labels that were read make known; how they are read: tests/streams/test_known_labels.py."""

from __future__ import annotations

import numpy as np

from include.features.entities import KINDS, coded
from include.features.known_frauds import DAY, WINDOWS, KnownFrauds, changes

FIRST = 20_727  # a day, since 1970


def test_the_frauds_of_a_day_are_those_reported_in_the_window_as_far_as_known():
    known = KnownFrauds([("merchant", "m", FIRST, FIRST + 2, 3), ("merchant", "m", FIRST, FIRST + 4, -1)])
    days = FIRST + np.array([0, 1, 2, 4, 6, 7, 29, 30, 99, 3])
    frauds = known.counts({"merchant": coded(["m"] * 9 + [None])}, days * DAY)
    assert frauds.shape == (10, len(KINDS), len(WINDOWS))
    by_window = frauds[:, KINDS.index("merchant")].T.tolist()
    assert by_window == [
        [0] * 10,
        [0, 0, 3, 2, 2, 0, 0, 0, 0, 0],
        [0, 0, 3, 2, 2, 2, 2, 0, 0, 0],
    ]
    frauds[:, KINDS.index("merchant")] = 0
    assert not frauds.any()


def test_each_kind_is_counted_for_itself():
    entities = {"customer": "a", "merchant": "a", "device": "b"}
    known = KnownFrauds([*changes(entities, FIRST, FIRST, 1), *changes({"device": "a"}, FIRST, FIRST, 1)])
    given = {kind: coded(["a", "b", None]) for kind in KINDS[1:]} | {
        "shop": coded(["x"] * 3)._replace(values=[""])
    }
    counts = known.counts(given, np.full(3, FIRST * DAY))
    assert (counts == counts[:, :, :1]).all()
    assert counts[:, :, 0].tolist() == [[2, 1, 1, 1, *[0] * 6], [2, 0, 0, 1, *[0] * 6], [2, *[0] * 9]]
    assert not KnownFrauds().counts(given, np.full(3, FIRST * DAY)).any()
