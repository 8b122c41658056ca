"""Which clicks on a verdict count; a clock and a session of the tests' own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from streamlit_app import judging


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(judging.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(judging.st, "session_state", {})
    return clock


def test_an_alert_can_be_judged_once_it_could_be_read(clock):
    judging.drawn("a")
    assert not judging.close("a")
    clock.now += judging.READING
    judging.drawn("a")  # drawn again, for a note: it has been there all along
    assert judging.close("a")


def test_a_second_click_judges_neither_the_same_alert_nor_the_next(clock):
    judging.drawn("a")
    clock.now += 60
    assert judging.close("a") and not judging.close("a")
    judging.drawn("b")
    clock.now += 0.35
    assert not judging.close("b") and not judging.close("a")
    clock.now += judging.READING
    assert not judging.close("a") and judging.close("b")


def test_the_same_alert_is_open_again_after_it_was_drawn_again(clock):
    judging.drawn("a")
    clock.now += 60
    assert judging.close("a")
    judging.drawn("a")
    clock.now += 60
    assert judging.close("a")
