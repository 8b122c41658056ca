"""Grafana's macros of the PostgreSQL data source, as pkg/tsdb/grafana-postgresql-datasource/macros.go expands them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class UnknownMacro(ValueError):
    """The SQL uses a macro that is not here."""


def expand(
    sql: str,
    since: datetime,
    until: datetime,
    interval: str = "1m",
    variables: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """The SQL that Grafana would send for a panel's time range and interval.

    variables: the chosen values by name. One without choice is on `All`, for which Grafana puts the variable's value
    for all, as it is: here an asterisk in quotes.
    """
    sql = re.sub(r"\$\{(\w+):sqlstring\}", lambda match: _values((variables or {}).get(match[1])), sql)
    milliseconds = int(_seconds(interval) * 1000)
    # Variables go first, then the macros, whose arguments are split on every comma.
    sql = sql.replace("$__interval_ms", str(milliseconds)).replace("$__interval", interval)
    start, end = (f"'{at.isoformat().replace('+00:00', 'Z')}'" for at in (since, until))

    def macro(match: re.Match[str]) -> str:
        name, arguments = match[1], [part.strip() for part in match[2].split(",")]
        if name == "timeFilter":
            return f"{arguments[0]} BETWEEN {start} AND {end}"
        if name in ("timeFrom", "timeTo"):
            return start if name == "timeFrom" else end
        if name in ("timeGroup", "timeGroupAlias"):
            seconds = _seconds(arguments[1].strip("'"))
            size = f"{seconds:g}"
            alias = ' AS "time"' if name.endswith("Alias") else ""
            return f"floor(extract(epoch from {arguments[0]})/{size})*{size}{alias}"
        raise UnknownMacro(f"$__{name}")

    expanded = re.sub(r"\$__(\w+)\(([^)]*)\)", macro, sql)
    if "$" in expanded:
        raise UnknownMacro(expanded)
    return expanded


def _values(chosen: Sequence[str] | None) -> str:
    return "'*'" if chosen is None else ",".join("'" + value.replace("'", "''") + "'" for value in chosen)


def _seconds(interval: str) -> float:
    match = re.fullmatch(r"(\d+)(\w+)", interval)
    if match is None:
        raise ValueError(f"{interval!r} is no interval such as 5m")
    return int(match[1]) * UNITS[match[2]]
