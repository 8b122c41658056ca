"""Times as whole microseconds or as seconds since 1970 UTC, and as aware datetimes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(time: datetime) -> int:
    """Microseconds since 1970 of an aware datetime."""
    return (time - EPOCH) // timedelta(microseconds=1)


def from_micros(time: int) -> datetime:
    """The UTC datetime of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=time)


def from_seconds(time: float) -> datetime:
    """The UTC datetime of seconds since 1970."""
    return datetime.fromtimestamp(time, UTC)
