"""Kafka records to events: those that a decoder accepts, and dead letters of those that it rejects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from include.events.transaction import Rejected
from include.settings import Settings
from include.streams.store import DeadLetter, Record

Event = TypeVar("Event")


def decode_records(
    records: Sequence[Record], decode: Callable[..., Event], settings: Settings
) -> tuple[list[tuple[Record, Event]], list[DeadLetter]]:
    """Decodes records: the accepted ones with their event, and those that `decode` rejected."""
    accepted: list[tuple[Record, Event]] = []
    rejects: list[DeadLetter] = []
    max_bytes = settings.max_event_bytes
    tolerance = timedelta(seconds=settings.future_tolerance_seconds)
    for record in records:
        try:
            event = decode(record.value, record.broker_time, max_bytes=max_bytes, future_tolerance=tolerance)
        except Rejected as rejected:
            rejects.append(DeadLetter(record, rejected.reason, rejected.detail))
        else:
            accepted.append((record, event))
    return accepted, rejects
