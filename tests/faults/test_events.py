"""The campaign's events: the same for the same number, and judged by the platform's decoder as the campaign says."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from include.events.label import decode_label
from include.events.strict_json import Rejected
from include.events.transaction import decode
from include.faults.events import LATE, SHARES, EventKind, Events

START = datetime(2026, 11, 20, tzinfo=UTC)
LIMITS = {"max_bytes": 65_536, "future_tolerance": timedelta(minutes=5)}
LOG_TIME = START + timedelta(days=1)
EVENTS = [Events(7, START).event(number) for number in range(4_000)]


def of(*kinds: EventKind) -> list:
    return [event for event in EVENTS if event.kind in kinds]


def test_an_event_depends_on_seed_and_number_alone():
    again = Events(7, START)
    assert [again.event(number) for number in (3_999, 17, 0)] == [EVENTS[3_999], EVENTS[17], EVENTS[0]]
    assert Events(8, START).event(17) != EVENTS[17]


def test_there_are_as_many_of_each_kind_as_said():
    counted = Counter(event.kind for event in EVENTS)
    for kind, share in SHARES.items():
        assert counted[kind] == pytest.approx(len(EVENTS) * share / sum(SHARES.values()), rel=0.35)


def test_poison_is_rejected_and_nothing_else():
    for event in EVENTS:
        read = decode_label if event.is_label else decode
        if event.kind in (EventKind.POISON, EventKind.POISON_LABEL):
            with pytest.raises(Rejected):
                read(event.value, LOG_TIME, **LIMITS)
        else:
            read(event.value, LOG_TIME, **LIMITS)


def test_content_is_equal_exactly_when_the_fingerprint_is():
    contents_by_id = {}
    for event in of(EventKind.NEW, EventKind.DUPLICATE, EventKind.CONFLICT):
        decoded = decode(event.value, LOG_TIME, **LIMITS)
        assert decoded.transaction.transaction_id == event.transaction_id
        assert decoded.transaction.user_id.encode() == event.key
        contents_by_id.setdefault(event.transaction_id, {}).setdefault(event.content, set()).add(
            decoded.fingerprint
        )
    assert all(len(prints) == 1 for contents in contents_by_id.values() for prints in contents.values())
    assert all(len(set.union(*contents.values())) == len(contents) for contents in contents_by_id.values())
    assert sum(len(contents) > 1 for contents in contents_by_id.values()) > 20


def test_duplicates_and_conflicts_come_after_their_first_in_another_form():
    first = {}
    for event in of(EventKind.NEW, EventKind.DUPLICATE, EventKind.CONFLICT):
        if event.kind is EventKind.NEW:
            first[event.transaction_id] = event
        else:
            assert event.value != first[event.transaction_id].value
            assert (event.content == first[event.transaction_id].content) == (
                event.kind is EventKind.DUPLICATE
            )


def test_known_at_names_the_label_that_an_event_makes():
    for event in of(EventKind.LABEL):
        label = decode_label(event.value, LOG_TIME, **LIMITS)
        assert (label.transaction_id, label.known_at) == (
            event.transaction_id,
            datetime.fromisoformat(event.known_at),
        )
    assert len({(event.transaction_id, event.known_at) for event in of(EventKind.LABEL)}) == len(
        of(EventKind.LABEL)
    )
    for event in of(EventKind.NEW):
        decoded = decode(event.value, LOG_TIME, **LIMITS)
        assert (decoded.is_fraud is None) == (event.known_at is None)
        assert event.known_at in (None, decoded.transaction.timestamp.isoformat())


def test_some_are_late():
    times = [decode(event.value, LOG_TIME, **LIMITS).transaction.timestamp for event in of(EventKind.NEW)]
    assert sum(time < START for time in times) == pytest.approx(LATE * len(times), rel=0.4)


def test_aborted_events_are_right_ones_that_are_sent_nowhere_else():
    events = Events(7, START)
    aborted = [events.aborted(number) for number in range(1_000)]
    sent = {(event.transaction_id, event.known_at) for event in EVENTS}
    for event, beside in zip(aborted, EVENTS, strict=False):
        assert event.is_label == beside.is_label and event.number == beside.number
        if event.is_label:
            decode_label(event.value, LOG_TIME, **LIMITS)
            assert (event.transaction_id, event.known_at) not in sent
        else:
            decode(event.value, LOG_TIME, **LIMITS)
            assert event.transaction_id not in {transaction_id for transaction_id, _ in sent}
