"""*Model health*: how well the scores find the fraud that is known, and whether they drift."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from include.grafana.boards import board, model_in_use, share_of_flagged
from include.grafana.panels import BLUE, GREEN, GREY, ORANGE, bars, figure, heat_map, lines, rows
from include.grafana.query import CELLS, FLAGGED, VERSION, annotation, fields

SETTLED = "timestamp < (select until from monitoring.settled)"
ON_SETTLED = "Only settled transactions: those old enough that one without a label counts as not fraud."

# Buckets of 0.04, two bins each; the heat map needs a column for each of them.
BUCKETS = 25
COLUMNS = ",\n       ".join(
    f"coalesce(sum(transactions) filter (where bin in ({2 * bucket}, {2 * bucket + 1})), 0)::bigint"
    f' as "{bucket * 0.04:.2f}"'
    for bucket in range(BUCKETS)
)

# The population stability index of the scores against those of the version's first seven days, in the same buckets:
# the sum of (p - q) ln (p / q), with half a transaction added to each bucket.
DRIFT = """
with known as (
    select model_version, at, grain, bin / 2 as bucket, sum(transactions) as transactions
    from monitoring.score_counts
    where {condition}
    group by model_version, at, grain, bin / 2
), reference as (
    select c.model_version, c.bin / 2 as bucket, sum(c.transactions) as transactions
    from monitoring.score_counts c
    join (select model_version, min(at) as began from monitoring.score_counts where grain = 86400 group by 1) first
        using (model_version)
    where c.grain = 86400 and c.at < first.began + interval '7 days'
    group by c.model_version, c.bin / 2
), shares as (
    select cell.model_version, cell.at,
           (coalesce(k.transactions, 0) + 0.5) / (sum(coalesce(k.transactions, 0) + 0.5) over cells) as p,
           (coalesce(r.transactions, 0) + 0.5) / (sum(coalesce(r.transactions, 0) + 0.5) over cells) as q
    from (select distinct model_version, at from known) cell
    cross join generate_series(0, {last}) numbers (bucket)
    left join known k on k.model_version = cell.model_version and k.at = cell.at and k.bucket = numbers.bucket
    left join reference r on r.model_version = cell.model_version and r.bucket = numbers.bucket
    window cells as (partition by cell.model_version, cell.at)
)
"""


def drift(condition: str) -> str:
    """The shares p and q of each version, cell and bucket; `condition` chooses the cells."""
    return DRIFT.format(condition=condition, last=BUCKETS - 1)


# Of each UTC day: hours with few scores would differ by chance alone.
DAYS = "grain = 86400 and at >= date_trunc('day', $__timeFrom()::timestamptz, 'UTC') and at < $__timeTo()"
DRIFT_OF_DAYS = drift(f"{DAYS}\n      and {VERSION}")
ENOUGH = """where (model_version, at) in (
    select model_version, at from known group by 1, 2 having sum(transactions) >= 500)"""
# For the alert rule: the last full day.
DRIFT_OF_A_DAY = (
    drift("grain = 86400 and at = date_trunc('day', now() - interval '1 day', 'UTC')")
    + """select model_version::text, sum((p - q) * ln(p / q))::float8 as drift
from shares
"""
    + ENOUGH
    + """
group by model_version
"""
)


def dashboard() -> build.Dashboard:
    return (
        board(
            "model",
            "Model health",
            "How well the scores find the fraud that is known by now, whether they drift, and the models.",
            "now-30d",
            "1m",
        )
        .annotation(
            annotation(
                "Not settled yet",
                """
select until as time, now() as timeend, 'not settled yet: missing reports still count as missing' as text
from monitoring.settled
""",
                GREY,
            )
        )
        .with_row(build.Row("Against the labels known by now"))
        .with_panel(model_in_use(width=4))
        .with_panel(
            share_of_flagged(
                "Precision of alerts",
                f"Share of fraud among the alerts of the chosen time. {ON_SETTLED}",
                "precision",
                of="is_fraud",
                among=f"is_alert and {SETTLED}",
                steps=(0.2, 0.4),
                empty="none settled yet",
            )
        )
        .with_panel(
            share_of_flagged(
                "Recall",
                f"Share of the frauds of the chosen time that raised an alert. {ON_SETTLED}",
                "recall",
                of="is_alert",
                among=f"is_fraud and {SETTLED}",
                steps=(0.3, 0.5),
                empty="none settled yet",
            )
        )
        .with_panel(
            figure(
                "Settled frauds",
                f"How many frauds precision and recall rest on: below about 100 they are rough. {ON_SETTLED}",
                f"""
select count(*) as frauds
from {FLAGGED}
  and is_fraud and {SETTLED}
""",
                "short",
                (30, "orange"),
                (100, "green"),
                first="red",
                width=4,
            )
        )
        .with_panel(
            figure(
                "Settled until",
                "Younger transactions are not settled: a missing report still counts as missing there. The panels "
                "over time mark them.",
                """
select extract(epoch from until) * 1000 as "settled until"
from monitoring.settled
""",
                "dateTimeAsIso",
                first="blue",
                width=4,
            )
        )
        .with_panel(
            figure(
                "Drift of the scores",
                "Largest population stability index of a day of the chosen time: the distribution of a version's "
                "scores against its first seven days. Above 0.1 it has moved, above 0.25 far.",
                DRIFT_OF_DAYS
                + f"""select max(psi) as drift
from (
    select sum((p - q) * ln(p / q))::float8 as psi from shares
    {ENOUGH}
    group by model_version, at
) days
""",
                "short",
                (0.1, "orange"),
                (0.25, "red"),
                width=4,
                decimals=2,
            )
        )
        .with_row(build.Row("Over time"))
        .with_panel(
            lines(
                "Precision and recall per day",
                f"Per UTC day of the payment. {ON_SETTLED} The marked end is not settled yet; marks show new versions.",
                f"""
select date_trunc('day', timestamp, 'UTC') as time,
       count(*) filter (where is_alert and is_fraud)::float8 / nullif(count(*) filter (where is_alert), 0) as precision,
       count(*) filter (where is_alert and is_fraud)::float8 / nullif(count(*) filter (where is_fraud), 0) as recall
from {FLAGGED}
  and {SETTLED}
group by 1
order by 1
""",
                "percentunit",
                "share",
                {"precision": BLUE, "recall": ORANGE},
                fill=0,
                points=True,
                maximum=1,
                height=9,
                empty="none settled yet",
            )
        )
        .with_panel(
            lines(
                "Alerts and known frauds per day",
                "What became of known frauds and of alerts, per UTC day of the payment.",
                f"""
select date_trunc('day', timestamp, 'UTC') as time,
       count(*) filter (where is_fraud and is_alert) as "fraud, alerted",
       count(*) filter (where is_fraud and not is_alert) as "fraud, missed",
       count(*) filter (where is_alert and is_fraud is not true and {SETTLED}) as "legitimate, alerted",
       count(*) filter (where is_alert and is_fraud is not true and not {SETTLED}) as "alerted, not settled yet"
from {FLAGGED}
group by 1
order by 1
""",
                "short",
                "transactions",
                {
                    "fraud, alerted": GREEN,
                    "fraud, missed": ORANGE,
                    "legitimate, alerted": BLUE,
                    "alerted, not settled yet": GREY,
                },
                bars=True,
                height=9,
                empty="no alert and no fraud in this time",
            )
        )
        .with_row(build.Row("Scores"))
        .with_panel(
            heat_map(
                "Scores over time",
                "How many transactions got which score, by the time of the payment, in steps of 0.04.",
                f"""
select at as time,
       {COLUMNS}
from monitoring.score_counts
where {CELLS}
  and {VERSION}
group by at
order by at
""",
                "short",
            )
        )
        .with_panel(
            lines(
                "Drift of the scores over time",
                "Population stability index of each version's scores against its first seven days, per UTC day with at "
                "least 500 scores. Above 0.1 the distribution has moved, above 0.25 far.",
                DRIFT_OF_DAYS
                + f"""select at as time, 'version ' || model_version as metric,
       sum((p - q) * ln(p / q))::float8 as drift
from shares
{ENOUGH}
group by at, model_version
order by at, model_version
""",
                "short",
                "population stability index",
                {},
                height=9,
                points=True,
                steps=((0.1, "orange"), (0.25, "red")),
            )
        )
        .with_panel(
            lines(
                "Alert rate by version",
                "Share of the scored transactions that raised an alert, by the time of the payment.",
                f"""
select at as time, 'version ' || model_version as metric, sum(alerts)::float8 / sum(transactions) as "alert rate"
from monitoring.score_counts
where {CELLS}
  and {VERSION}
group by at, model_version
order by at, model_version
""",
                "percentunit",
                "share of transactions",
                {},
            )
        )
        .with_panel(
            bars(
                "Scores by class",
                "Share of each class per score bin of 0.04, so that rare fraud is as visible as the rest. Fraud is "
                "what is known by now; the bins of all transactions hold it, too.",
                f"""
select to_char(bucket * 0.04, 'FM0.00') as score, coalesce(a.share, 0) as "all transactions",
       coalesce(f.share, 0) as "known fraud"
from generate_series(0, {BUCKETS - 1}) bucket
left join (
    select bin / 2 as bucket, (sum(transactions) / sum(sum(transactions)) over ())::float8 as share
    from monitoring.score_counts
    where {CELLS}
      and {VERSION}
    group by bin / 2
) a using (bucket)
left join (
    select least(floor(score * {BUCKETS})::integer, {BUCKETS - 1}) as bucket,
           (count(*) / sum(count(*)) over ())::float8 as share
    from {FLAGGED}
      and is_fraud and score is not null
    group by 1
) f using (bucket)
where a.share is not null or f.share is not null
order by bucket
""",
                "percentunit",
                "score",
                {"all transactions": BLUE, "known fraud": ORANGE},
                width=12,
                height=8,
                vertical=True,
            )
        )
        .with_row(build.Row("Versions"))
        .with_panel(
            rows(
                "Registered versions",
                "Every version that training registered, with its measures on time later than what it learned from.",
                f"""
select version, family, created_at as registered, trained_from as "trained from", trained_to as "trained to", threshold,
       (metrics ->> 'average_precision')::float8 as "average precision", (metrics ->> 'auc')::float8 as "AUC",
       (metrics ->> 'precision_at_threshold')::float8 as precision,
       (metrics ->> 'recall_at_threshold')::float8 as recall
from monitoring.models
where {VERSION.replace("model_version", "version")}
order by version desc
limit 100
""",
                width=24,
                empty="no model yet",
            )
            .override_by_regexp("registered|trained .*", fields(unit="dateTimeAsIso"))
            .override_by_regexp("average precision|AUC|precision|recall|threshold", fields(decimals=3))
        )
    )
