"""What the labels that were read make known of a merchant; how they are read: tests/streams/test_known_labels.py."""

from __future__ import annotations

import numpy as np

from include.features.known_frauds import DAY, WINDOW, KnownFrauds

FIRST = 20_727  # a day, since 1970


def test_the_frauds_of_a_day_are_those_reported_in_the_window_as_far_as_known():
    known = KnownFrauds([("m", FIRST, FIRST + 2, 3), ("m", FIRST, FIRST + 4, -1)])
    days = FIRST + np.array([0, 1, 2, 4, WINDOW - 1, WINDOW, 99, 3])
    assert known.counts(["m"] * 7 + [None], days * DAY).tolist() == [0, 0, 3, 2, 2, 0, 0, 0]
