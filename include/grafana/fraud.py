"""*Fraud analytics*: where, with what and on what fraud happens, and what it costs."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from include.grafana.boards import board, latest_alerts, share_of_flagged
from include.grafana.panels import GREEN, ORANGE, bars, figure, lines, rows, world
from include.grafana.query import CELLS, FILTERS, FLAGGED, fields

ACTIVITY = f"monitoring.activity\n    where {CELLS}\n      and {FILTERS}"
REPORTED = "Fraud is what is reported by now; reports come hours to days late."

# Alerts are those of the flagged events, frauds those that are known.
BY = """
select t.{key}, t.transactions, coalesce(f.alerts, 0) as alerts, coalesce(f.frauds, 0) as frauds,
       coalesce(f.frauds, 0)::float8 / t.transactions as "fraud rate",
       coalesce(f.caught::float8 / nullif(f.frauds, 0), 0) as "share alerted"
from (
    select {key}, sum(transactions) as transactions
    from {activity}
    group by {key}
) t
left join (
    select {key}, count(*) filter (where is_alert) as alerts, count(*) filter (where is_fraud) as frauds,
           count(*) filter (where is_fraud and is_alert) as caught
    from {flagged}
    group by {key}
) f using ({key})
order by frauds desc, t.transactions desc, t.{key}
limit {limit}
"""


def by(key: str, limit: int) -> str:
    """Transactions, alerts and known frauds by country or category."""
    return BY.format(key=key, limit=limit, activity=ACTIVITY, flagged=FLAGGED)


def flagged_by(key: str) -> str:
    """Known frauds, with and without an alert, and false alerts by device or merchant: the ten with most frauds."""
    return f"""
select {key}, count(*) filter (where is_fraud and is_alert) as "fraud, alerted",
       count(*) filter (where is_fraud and not is_alert) as "fraud, missed"
from {FLAGGED}
  and is_fraud
group by {key}
order by count(*) desc, {key}
limit 10
"""


FRAUD_COLORS = {"fraud, alerted": GREEN, "fraud, missed": ORANGE}


def dashboard() -> build.Dashboard:
    return (
        board(
            "fraud",
            "Fraud analytics",
            "Known frauds and alerts by country, category, device, merchant and amount, and the money in them.",
            "now-30d",
            "1m",
        )
        .with_row(build.Row("At a glance"))
        .with_panel(
            figure(
                "Transactions",
                "Stored transactions of the chosen time, by the time of the payment; whole minutes, hours or days.",
                f"""
select sum(transactions) as transactions
from monitoring.activity
where {CELLS}
  and {FILTERS}
""",
                "short",
                first="blue",
                width=4,
            )
        )
        .with_panel(
            figure(
                "Known frauds",
                f"Transactions of the chosen time that are known as fraud. {REPORTED}",
                f"""
select count(*) as frauds
from {FLAGGED}
  and is_fraud
""",
                "short",
                first="blue",
                width=4,
            )
        )
        .with_panel(
            figure(
                "Known fraud rate",
                f"Share of the transactions of the chosen time that are known as fraud. {REPORTED}",
                f"""
select f.frauds::float8 / nullif(t.transactions, 0) as "fraud rate"
from (
    select sum(transactions) as transactions
    from {ACTIVITY}
) t
cross join (
    select count(*) as frauds
    from {FLAGGED}
      and is_fraud
) f
""",
                "percentunit",
                (0.03, "orange"),
                (0.1, "red"),
                width=4,
                decimals=2,
            )
        )
        .with_panel(
            figure(
                "Alerts",
                "Alerts on transactions of the chosen time.",
                f"""
select count(*) as alerts
from {FLAGGED}
  and is_alert
""",
                "short",
                first="blue",
                width=4,
            )
        )
        .with_panel(
            share_of_flagged(
                "Known frauds alerted",
                f"Share of the known frauds of the chosen time that raised an alert. {REPORTED}",
                '"share alerted"',
                of="is_alert",
                among="is_fraud",
                steps=(0.3, 0.5),
                empty="no fraud known",
            )
        )
        .with_panel(
            figure(
                "Time to the report",
                "Median time from the payment to the report of a fraud of the chosen time.",
                f"""
select percentile_cont(0.5) within group (order by extract(epoch from known_at - timestamp))::float8 as "time to report"
from {FLAGGED}
  and is_fraud
""",
                "s",
                first="blue",
                width=4,
                empty="no fraud known",
            )
        )
        .with_row(build.Row("Where"))
        .with_panel(
            world(
                "Known frauds by country",
                "A circle at each country of payment: its area grows with the known frauds, its colour shows the fraud "
                "rate. Countries that Grafana's gazetteer does not know by name or code are in the table only.",
                by("country", 250),
                "frauds",
                "fraud rate",
            ).override_by_name("fraud rate", fields(unit="percentunit"))
        )
        .with_panel(
            rows(
                "Countries",
                f"The 50 countries of payment with the most known frauds. {REPORTED}",
                by("country", 50),
                height=11,
            )
            .override_by_name("fraud rate", fields(unit="percentunit", decimals=2))
            .override_by_name("share alerted", fields(unit="percentunit", decimals=0))
        )
        .with_row(build.Row("What"))
        .with_panel(
            rows(
                "Categories",
                f"Transactions, alerts and known frauds by the merchant's category. {REPORTED}",
                by("category", 50),
                height=9,
            )
            .override_by_name("fraud rate", fields(unit="percentunit", decimals=2))
            .override_by_name("share alerted", fields(unit="percentunit", decimals=0))
        )
        .with_panel(
            bars(
                "Devices",
                f"Known frauds by device: the ten with most. {REPORTED}",
                flagged_by("device"),
                "short",
                "device",
                FRAUD_COLORS,
                stacked=True,
                empty="no fraud known",
            )
        )
        .with_panel(
            bars(
                "Merchants",
                f"Known frauds by merchant: the ten with most. {REPORTED}",
                flagged_by("merchant_id"),
                "short",
                "merchant_id",
                FRAUD_COLORS,
                stacked=True,
                empty="no fraud known",
            )
        )
        .with_panel(
            bars(
                "Amounts",
                "Known frauds by amount, each band twice as wide as the one before. Currencies are not converted.",
                f"""
select to_char(power(2, band), 'FM999999999990') as "amount from",
       count(*) filter (where is_alert) as "fraud, alerted", count(*) filter (where not is_alert) as "fraud, missed"
from (
    select floor(log(2, greatest(amount, 1)))::integer as band, is_alert
    from {FLAGGED}
      and is_fraud
) banded
group by band
order by band
""",
                "short",
                "amount from",
                FRAUD_COLORS,
                width=12,
                height=8,
                vertical=True,
                stacked=True,
                empty="no fraud known",
            )
        )
        .with_panel(
            bars(
                "Kinds of fraud",
                "Known frauds by kind, where the ground truth names it. The models never see it.",
                f"""
select replace(scenario_id, '_', ' ') as kind, count(*) filter (where is_alert) as "fraud, alerted",
       count(*) filter (where not is_alert) as "fraud, missed"
from {FLAGGED}
  and is_fraud and scenario_id is not null
group by scenario_id
order by count(*) desc
""",
                "short",
                "kind",
                FRAUD_COLORS,
                width=12,
                height=8,
                stacked=True,
                empty="no kind is named",
            )
        )
        .with_row(build.Row("Money"))
        .with_panel(
            lines(
                "Money in known frauds",
                f"Sum of the amounts of known frauds per UTC day of the payment. Currencies are added up without "
                f"conversion: choose countries of one currency. {REPORTED}",
                f"""
select date_trunc('day', timestamp, 'UTC') as time,
       coalesce(sum(amount) filter (where is_alert), 0)::float8 as "fraud, alerted",
       coalesce(sum(amount) filter (where not is_alert), 0)::float8 as "fraud, missed"
from {FLAGGED}
  and is_fraud
group by 1
order by 1
""",
                "short",
                "amount",
                FRAUD_COLORS,
                bars=True,
                empty="no fraud known",
            )
        )
        .with_panel(
            rows(
                "Money by currency",
                f"Amounts of all transactions and of known frauds in the chosen time. {REPORTED}",
                f"""
select currency, t.cents::float8 / 100 as paid, coalesce(f.lost, 0) as "in fraud",
       coalesce(f.caught, 0) as "of it alerted", coalesce(f.lost, 0) * 100 / nullif(t.cents, 0) as "fraud share"
from (
    select currency, sum(cents) as cents
    from {ACTIVITY}
    group by currency
) t
left join (
    select currency, sum(amount)::float8 as lost, coalesce(sum(amount) filter (where is_alert), 0)::float8 as caught
    from {FLAGGED}
      and is_fraud
    group by currency
) f using (currency)
order by t.cents desc
""",
            ).override_by_name("fraud share", fields(unit="percentunit", decimals=3))
        )
        .with_row(build.Row("Alerts"))
        .with_panel(latest_alerts())
    )
