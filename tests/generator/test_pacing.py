"""Records go at their times, and a backlog no faster than the bound."""

from __future__ import annotations

import pytest

from include.generator import pacing
from include.generator.pacing import CATCH_UP, Clock, Pacer
from include.generator.volume import SECOND


class Time:
    """A clock that goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.seconds = 0.0
        self.jump = 0.0
        monkeypatch.setattr(pacing, "time", self)

    def monotonic(self) -> float:
        return self.seconds

    def monotonic_ns(self) -> int:
        return round(self.seconds * 1e9)

    def time_ns(self) -> int:
        return round((self.seconds + self.jump) * 1e9)


@pytest.fixture
def now(monkeypatch) -> Time:
    return Time(monkeypatch)


def test_a_record_goes_when_it_is_due_and_the_pause_ends_then(now):
    pacer, times = Pacer(Clock(), rate=1.0), [SECOND, SECOND + 50_000]
    assert pacer.due(times, 0) == 0 and pacer.behind == 0
    assert pacer.pause(times[0]) == pacing.LONGEST_PAUSE
    now.seconds = 0.95
    assert pacer.due(times, 0) == 0 and pacer.pause(times[0]) == pytest.approx(0.05)
    now.seconds = 1.0
    assert pacer.due(times, 0) == 1


def test_a_backlog_goes_at_no_more_than_the_bound_and_says_how_late_it_is(now):
    rate = 50.0
    pacer, times = Pacer(Clock(), rate), list(range(-10 * SECOND, 0, SECOND // 50))
    sent = 0
    while now.seconds < 3.0:
        sent = pacer.due(times, sent)
        now.seconds += 0.1
        assert sent <= CATCH_UP * rate * (now.seconds + pacing.BURST_SECONDS)
    assert sent >= CATCH_UP * rate * 2.8
    assert pacer.behind == pytest.approx(now.seconds - 0.1 - times[sent] / SECOND, abs=0.01)
    now.seconds = 60.0
    while sent < len(times):
        sent = pacer.due(times, sent)
        now.seconds += 0.1
    assert pacer.behind == 0


def test_a_pause_of_the_machine_gives_no_more_than_a_short_burst(now):
    pacer, times = Pacer(Clock(), rate=100.0), [0] * 1_000
    now.seconds = 30.0
    assert pacer.due(times, 0) == CATCH_UP * 100 * pacing.BURST_SECONDS


def test_a_jump_of_the_machines_clock_is_noticed(now):
    clock = Clock()
    now.seconds = 10.0
    assert clock.now() == 10 * SECOND and not clock.jumped()
    now.jump = 3_600.0
    assert clock.jumped() and clock.drift() == 3_600 * SECOND and clock.now() == 10 * SECOND


def test_the_clock_flows_evenly():
    clock = Clock()
    first, second = clock.now(), clock.now()
    assert first <= second and abs(clock.drift()) < 1_000_000
