"""The outage's figures: what came in, what waited, and when a stream had caught up."""

import pytest

from include.bench import outage
from include.bench.outage import Clearing, Look, NotCleared, clearing


def looks(*rows: tuple[float, int, int]) -> list[Look]:
    """Looks from (seconds, end, read by the fraud stream)."""
    return [Look(seconds, end, {"fraud_stream": read}) for seconds, end, read in rows]


def test_the_input_rate_is_what_came_in_a_second():
    assert outage.input_rate(looks((10, 1_000, 0), (70, 13_000, 0))) == 200


def test_an_outage_in_which_nothing_came_measures_nothing():
    with pytest.raises(NotCleared, match="producer"):
        outage.input_rate(looks((0, 5, 0), (60, 5, 0)))


def test_a_backlog_is_cleared_when_the_stream_lags_less_than_five_seconds():
    samples = looks(
        (0, 12_000, 0), (10, 14_000, 0), (15, 15_000, 12_000), (16, 15_200, 14_201), (17, 15_400, 15_400)
    )
    assert clearing("fraud_stream", samples, rate=200) == Clearing("fraud_stream", 12_000, 16, 14_201)
    assert clearing("fraud_stream", samples, rate=200).rate == pytest.approx(14_201 / 16)
    assert clearing("fraud_stream", samples[:3], rate=200) is None


def test_a_stream_that_has_not_read_yet_has_not_caught_up():
    assert clearing("fraud_stream", looks((0, 100, 50), (1, 100, 50)), rate=200) is None


def test_the_report_compares_with_the_input():
    assert list(outage.report(200, [Clearing("fraud_stream", 120_000, 30, 126_000)])) == [
        "input: 200 events a second",
        "fraud_stream: 120,000 events waiting, caught up 30.0 s after it was switched on:"
        " 4,200 events a second, 21.0 times the input",
    ]
