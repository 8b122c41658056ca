"""What the three dashboards have in common: variables, links, annotations, and panels that two of them have."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import stat, table
from grafana_foundation_sdk.models import dashboard

from include.grafana.panels import BLUE, GREY, figure, rows
from include.grafana.query import (
    CATEGORY,
    COUNTRY,
    EVENTS,
    FLAGGED,
    VERSION,
    address_variable,
    annotation,
    fields,
    variable,
)

# The newest flagged events with a link to their page; both dashboards of transactions have it.
LATEST_ALERTS = f"""
select f.timestamp as "time of payment", f.transaction_id as transaction, f.amount::float8 as amount, f.currency,
       f.country, f.category, f.score, f.model_version as version, f.is_fraud as "known as fraud",
       (select string_agg(reason ->> 'text', ' · ')
        from monitoring.alerts a, jsonb_array_elements(a.reasons) reason
        where a.transaction_id = f.transaction_id and a.timestamp = f.timestamp) as reasons
from (
    select * from monitoring.flagged
    where {EVENTS} and is_alert
      and {COUNTRY}
      and {CATEGORY}
      and {VERSION}
    order by timestamp desc
    limit 50
) f
order by f.timestamp desc
"""
ALERT_PAGE = {
    "title": "Open in Streamlit",
    "url": "${streamlit:raw}/alerts?transaction=${__data.fields.transaction:percentencode}",
    "targetBlank": True,
}
CHOICES = """
select {column} from monitoring.activity where grain = 86400 and at >= now() - interval '400 days'
group by {column} order by sum(transactions) desc limit 500
"""


def board(uid: str, title: str, description: str, since: str, refresh: str) -> build.Dashboard:
    """A dashboard without panels."""
    return (
        build.Dashboard(title)
        .uid(f"fraudstream-{uid}")
        .description(description)
        .tags(["fraudstream"])
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .timezone("utc")
        .refresh(refresh)
        .timepicker(build.TimePicker().refresh_intervals(["5s", "10s", "30s", "1m", "5m", "15m"]))
        .with_variable(variable("country", "Country", CHOICES.format(column="country").strip()))
        .with_variable(variable("category", "Category", CHOICES.format(column="category").strip()))
        .with_variable(
            variable(
                "version",
                "Model version",
                "select version::text from monitoring.models order by version desc",
            )
        )
        .with_variable(address_variable("streamlit"))
        .link(
            build.DashboardLink("fraudstream")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags(["fraudstream"])
            .icon("external link")
            .keep_time(False)
            .include_vars(True)
        )
        .annotation(
            annotation(
                "Registered versions",
                "select created_at as time, 'model version ' || version || ' registered' as text\n"
                "from monitoring.models\nwhere $__timeFilter(created_at)",
                GREY,
            )
        )
        .annotation(
            annotation(
                "Champion changes",
                """
select at as time, kind || ': ' || coalesce('model version ' || version, 'none') || ' is champion' as text
from monitoring.promotions
where done and $__timeFilter(at)
""",
                BLUE,
            )
        )
    )


def model_in_use(width: int = 3) -> stat.Panel:
    """The version that scores now."""
    return figure(
        "Model in use",
        "Version of the model that the fraud stream scores with.",
        """
select coalesce('version ' || model_version, 'none yet') as "model"
from monitoring.leases
where stream = 'fraud_stream'
""",
        "string",
        first="blue",
        width=width,
    )


def share_of_flagged(
    title: str, description: str, column: str, *, of: str, among: str, steps: tuple[float, float], empty: str
) -> stat.Panel:
    """The share of those with the condition `of` among the flagged events with the condition `among`.

    Args:
        column: its name in SQL.
        steps: from the first share on it is orange, from the second on green.
    """
    return figure(
        title,
        description,
        f"""
select count(*) filter (where {of})::float8 / nullif(count(*), 0) as {column}
from {FLAGGED}
  and {among}
""",
        "percentunit",
        (steps[0], "orange"),
        (steps[1], "green"),
        first="red",
        width=4,
        decimals=1,
        empty=empty,
    )


def latest_alerts() -> table.Panel:
    """The table of the newest alerts, each with a link to its page."""
    return (
        rows(
            "Latest alerts",
            "The newest alerts of the chosen time with what raised them. The link of a transaction opens its page in "
            "Streamlit, which takes verdicts.",
            LATEST_ALERTS,
            width=24,
            height=9,
            empty="no alert in this time",
        )
        .override_by_name("time of payment", fields(unit="dateTimeAsIso", custom_width=170))
        .override_by_name("transaction", fields(links=[ALERT_PAGE]))
        .override_by_name("amount", fields(decimals=2, custom_width=90))
        .override_by_name("score", fields(decimals=3, custom_width=70))
        .override_by_name("version", fields(custom_width=70))
    )
