"""Kinds of command-line arguments: durations, moments, speeds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Duration(click.ParamType):
    """`90s`, `15m`, `36h` or `7d`, at most ten years."""

    name = "duration"

    def convert(self, value: str | timedelta, param, ctx) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])", value)
        duration = timedelta(**{UNITS[found[2]]: float(found[1])}) if found else None
        if duration is None or duration > timedelta(days=3650):
            self.fail(f"{value!r} is no duration such as 90s, 15m, 36h or 7d, at most 3650d", param, ctx)
        return duration


class Moment(click.ParamType):
    """A date or a time as ISO 8601 writes it; without an offset it is UTC."""

    name = "time"

    def convert(self, value: str | datetime, param, ctx) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-11-24 or 2026-11-24T08:00", param, ctx)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Speed(click.ParamType):
    """A number above 0, or `max`, which is None."""

    name = "number|max"

    def convert(self, value: str | float | None, param, ctx) -> float | None:
        if value in (None, "max"):
            return None
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0 < speed < 1e12:
            self.fail(f"{value!r} is neither a number above 0 nor max", param, ctx)
        return speed
