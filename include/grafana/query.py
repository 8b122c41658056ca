"""The SQL that panels have in common, in Grafana's form: `$__…` are macros of its source, `${…}` variables."""

from __future__ import annotations

from typing import Any, Literal

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard

SOURCE = dashboard.DataSourceRef(type_val="grafana-postgresql-datasource", uid="fraudstream")

RANGE = "$__timeFrom(), $__timeTo()"
GRAIN = f"monitoring.grain({RANGE})"
BEGIN = f"monitoring.first_cell({RANGE})"
# The cells of the chosen time: whole ones, of the grain that fits its length.
CELLS = f"grain = {GRAIN} and at >= {BEGIN} and at < $__timeTo()"
# The same for single events.
EVENTS = f"timestamp >= {BEGIN} and timestamp < $__timeTo()"
# Seconds of the chosen time that have passed, and those of one cell.
SECONDS = f"greatest(extract(epoch from least($__timeTo()::timestamptz, now()) - {BEGIN}), 1)"
CELL_SECONDS = "greatest(least(grain, extract(epoch from now() - at)), 1)"


def chosen(variable: str, column: str) -> str:
    """The condition that a column has one of the values of a variable; its value for `All` is an asterisk."""
    values = f"${{{variable}:sqlstring}}"
    return f"('*' in ({values}) or {column} in ({values}))"


COUNTRY = chosen("country", "country")
CATEGORY = chosen("category", "category")
VERSION = chosen("version", "model_version::text")
FILTERS = f"{COUNTRY}\n  and {CATEGORY}\n  and {VERSION}"
# The events of the chosen time that raised an alert or are known as fraud.
FLAGGED = f"monitoring.flagged\nwhere {EVENTS}\n  and {FILTERS}"


class SqlQuery(Dataquery):
    """A query of the PostgreSQL source, which the SDK has no class for."""

    def __init__(self, sql: str, form: str, ref_id: str) -> None:
        self.sql, self.form, self.ref_id = sql, form, ref_id

    def to_json(self) -> dict[str, object]:
        return {
            "refId": self.ref_id,
            "datasource": SOURCE,
            "editorMode": "code",
            "format": self.form,
            "rawQuery": True,
            "rawSql": self.sql,
        }


class Sql(Builder[SqlQuery]):
    """Builds a query whose rows are a table, or series over a column `time`."""

    def __init__(self, sql: str, form: Literal["table", "time_series"] = "table", ref_id: str = "A") -> None:
        self.query = SqlQuery(sql.strip(), form, ref_id)

    def build(self) -> SqlQuery:
        return self.query


class _SqlAnnotationTarget(dashboard.AnnotationTarget):
    def __init__(self, query: SqlQuery) -> None:
        super().__init__()
        self.query = query

    def to_json(self) -> dict[str, object]:
        return self.query.to_json()


class SqlAnnotation(Builder[dashboard.AnnotationTarget]):
    """Builds the query of an annotation: columns time, text and, for a span, timeend."""

    def __init__(self, sql: str) -> None:
        self.query = SqlQuery(sql.strip(), "table", "Anno")

    def build(self) -> dashboard.AnnotationTarget:
        return _SqlAnnotationTarget(self.query)


def annotation(name: str, sql: str, color: str) -> Builder[dashboard.AnnotationQuery]:
    """Marks on every panel that has a time axis."""
    return (
        build.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .hide(False)
        .icon_color(color)
        .target(SqlAnnotation(sql))
    )


def variable(name: str, label: str, sql: str) -> Builder[dashboard.VariableModel]:
    """A choice of several values of the database, or all."""
    everything = dashboard.VariableOption(selected=True, text="All", value="$__all")
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(sql)
        .multi(True)
        .include_all(True)
        .all_value("'*'")
        .allow_custom_value(False)
        .current(everything)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
    )


def address_variable(page: str) -> Builder[dashboard.VariableModel]:
    """The hidden variable of a page's address, for links."""
    return (
        build.QueryVariable(page)
        .datasource(SOURCE)
        .query(f"select address from monitoring.pages where page = '{page}'")
        .hide(dashboard.VariableHide.HIDE_VARIABLE)
        .refresh(dashboard.VariableRefresh.ON_DASHBOARD_LOAD)
    )


def fields(**values: Any) -> list[dashboard.DynamicConfigValue]:
    """Properties of an override; an underscore in a name stands for a dot: custom_width."""
    return [
        dashboard.DynamicConfigValue(id_val=name.replace("custom_", "custom."), value=value)
        for name, value in values.items()
    ]
