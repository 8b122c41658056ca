"""Values in words for the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pandas

_SPECIAL = set("\\`*_{}[]<>()#+-.!|~$:&^=\"'@/")


def plain(text: object) -> str:
    """`text` as itself within Markdown: no link, picture, colour or formula comes out of data."""
    return "".join(f"\\{c}" if c in _SPECIAL else c for c in " ".join(str(text).split()))


def ago(seconds: float | None) -> str:
    """A time span, such as "4 min ago"; "never" for none."""
    if seconds is None or pandas.isna(seconds):
        return "never"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def share(part: float, whole: float) -> str:
    """A share as a percentage; a dash when there is nothing to be a share of."""
    return f"{part / whole:.1%}" if whole else "–"


def money(amount: float, currency: str | None = "") -> str:
    """An amount with its currency."""
    return f"{amount:,.2f} {currency or ''}".strip()


def when(at: datetime | None) -> str:
    """A time in UTC, such as "24 Nov 2026, 06:55:01"; "never" for none."""
    return "never" if at is None or pandas.isna(at) else f"{at:%d %b %Y, %H:%M:%S}"


def reasons(items: Sequence[Mapping[str, object]]) -> list[str]:
    """The texts of an alert's reasons, the strongest first."""
    return [str(item.get("text") or item.get("feature") or "") for item in items]


def last(number: int, noun: str) -> str:
    """`last transaction` or `last 3 transactions`."""
    return f"last {noun}" if number == 1 else f"last {number} {noun}s"
