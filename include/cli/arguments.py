"""What command-line arguments share: durations, times, speeds, bounds, and the option --json."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

from include.settings import Settings, limits

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
MOST = 2**31 - 1  # an integer of PostgreSQL
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Duration(click.ParamType[timedelta]):
    """`90s`, `15m`, `36h` or `7d`, at most ten years."""

    name = "duration"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])", value)
        duration = timedelta(**{UNITS[match[2]]: float(match[1])}) if match else None
        if duration is None or duration > timedelta(days=3650):
            self.fail(f"{value!r} is no duration such as 90s, 15m, 36h or 7d, at most 3650d", param, ctx)
        return duration


class Time(click.ParamType[datetime]):
    """A date or a time in ISO 8601; without an offset it is UTC."""

    name = "time"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            time = datetime.fromisoformat(value)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time such as 2026-11-24 or 2026-11-24T08:00", param, ctx)


class Speed(click.ParamType[float | None]):
    """A number above 0, or `max`, which is None."""

    name = "number|max"

    def convert(
        self, value: str | float | None, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value is None or value == "max":
            return None
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0 < speed < 1e12:
            self.fail(f"{value!r} is neither a number above 0 nor max", param, ctx)
        return speed


def bounded(setting: str) -> click.IntRange | click.FloatRange:
    """A number within the bounds of a setting."""
    bounds = limits(setting)
    low, high = (bounds.get(side, bounds.get(f"exclusive{side.title()}")) for side in ("minimum", "maximum"))
    if Settings.model_fields[setting].annotation is int:
        return click.IntRange(low and int(low), high and int(high))
    return click.FloatRange(
        low, high, min_open="exclusiveMinimum" in bounds, max_open="exclusiveMaximum" in bounds
    )
