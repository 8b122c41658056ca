"""*Real-time monitoring*: what arrives, how fast it is scored, and whether the streams are well."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from include.grafana.boards import board, latest_alerts, model_in_use
from include.grafana.panels import BLUE, GREEN, ORANGE, PURPLE, bars, figure, gauges, lines, rows
from include.grafana.query import CELL_SECONDS, CELLS, FILTERS, SECONDS, VERSION, fields

SCORED = f"monitoring.delay_counts\nwhere {CELLS}\n  and {VERSION}"
ACTIVITY = f"monitoring.activity\nwhere {CELLS}\n  and {FILTERS}"
ENTITIES = "by the time of the payment; whole minutes, hours or days, by the length of the chosen time"


def percentile(share: float, name: str) -> str:
    """The column of a percentile of the delay in seconds: the upper edge of its bin."""
    return f'min(upper) filter (where below >= {share} * total) / 1000 as "{name}"'


def delays(columns: str, key: str = "") -> str:
    """Percentiles of the bins, for each value of `key` or over all."""
    within = f"partition by {key}" if key else ""
    grouped = f"{key}, " if key else ""
    return f"""
select {f"{key} as time, " if key else ""}{columns}
from (
    select {grouped}power(1.1::float8, bin) as upper, sum(transactions) over ({within} order by bin) as below,
           sum(transactions) over ({within}) as total
    from (
        select {grouped}bin, sum(transactions) as transactions
        from {SCORED.replace(chr(10), chr(10) + "        ")}
        group by {grouped}bin
    ) bins
) ranked
{f"group by {key} order by {key}" if key else ""}
"""


def top(column: str) -> str:
    """The ten most frequent values of a column of the transactions."""
    return f"""
select {column}, sum(transactions) as transactions
from {ACTIVITY}
group by {column}
order by 2 desc, 1
limit 10
"""


def dashboard() -> build.Dashboard:
    return (
        board(
            "monitoring",
            "Real-time monitoring",
            "Transactions, alerts, streams and dead letters of fraudstream as they happen.",
            "now-1h",
            "10s",
        )
        .with_row(build.Row("At a glance"))
        .with_panel(
            figure(
                "Scored per second",
                "Transactions scored per second over the chosen time, by the time of scoring.",
                f"""
select sum(transactions) / {SECONDS} as "per second"
from {SCORED}
""",
                "short",
                first="blue",
                decimals=2,
            )
        )
        .with_panel(
            figure(
                "Alert rate",
                "Share of the transactions scored in the chosen time whose score reached the model's threshold.",
                f"""
select sum(alerts)::float8 / nullif(sum(transactions), 0) as "alert rate"
from {SCORED}
""",
                "percentunit",
                (0.03, "orange"),
                (0.1, "red"),
                decimals=1,
            )
        )
        .with_panel(
            figure(
                "Delay to score, p95",
                "95th percentile of the time from the broker to the score, of the transactions scored in the chosen "
                "time; at most 10 % more than the exact value.",
                delays(percentile(0.95, "delay")),
                "s",
                (5, "orange"),
                (30, "red"),
                decimals=2,
            )
        )
        .with_panel(
            figure(
                "Since the last score",
                "Time since a transaction was last scored. It grows when nothing arrives, too: compare with the "
                "producer's state below.",
                """
select extract(epoch from now() - max(scored_at))::float8 as "since the last score"
from (select scored_at from monitoring.scores order by scored_at desc limit 1) newest
""",
                "s",
                (60, "orange"),
                (300, "red"),
                decimals=0,
                empty="never",
            )
        )
        .with_panel(
            figure(
                "Open alerts",
                "Alerts of the last 30 days on which no analyst has decided yet.",
                f"""
select count(*) as "open alerts"
from monitoring.alerts a
left join monitoring.verdicts v using (transaction_id, topic, partition, "offset")
where a.created_at > now() - interval '30 days' and v.at is null
  and {VERSION}
""",
                "short",
                (500, "orange"),
                first="blue",
            )
        )
        .with_panel(
            figure(
                "Dead letters",
                "Records of the chosen time that could not be stored, by the time they were set aside.",
                """
select count(*) as "dead letters"
from monitoring.dead_letters
where $__timeFilter(at)
""",
                "short",
                (1, "orange"),
                (100, "red"),
            )
        )
        .with_panel(
            figure(
                "Waiting for a score",
                "Events that the transaction stream has read and the fraud stream has not.",
                """
select coalesce(sum(greatest(t.next_offset - f.next_offset, 0)), 0)::bigint as "events waiting"
from monitoring.streams t
join monitoring.streams f on f.topic = t.topic and f.partition = t.partition and f.stream = 'fraud_stream'
where t.stream = 'transaction_stream'
""",
                "short",
                (10_000, "orange"),
                (100_000, "red"),
            )
        )
        .with_panel(model_in_use())
        .with_row(build.Row("Transactions"))
        .with_panel(
            lines(
                "Transactions per second",
                "Scored: by the time of scoring. Paid: by the time of the payment itself, for the chosen countries and "
                "categories. The two differ while history is imported or a backlog is worked off.",
                f"""
select at as time, sum(transactions) / {CELL_SECONDS} as scored
from {SCORED}
group by at, grain
order by at
""",
                "short",
                "transactions per second",
                {"scored": BLUE, "paid": GREEN},
                f"""
select at as time, sum(transactions) / {CELL_SECONDS} as paid
from {ACTIVITY}
group by at, grain
order by at
""",
            )
        )
        .with_panel(
            lines(
                "Alert rate over time",
                "Share of the transactions of the chosen countries and categories whose score reached the threshold, "
                "by the time of the payment.",
                f"""
select at as time, sum(alerts)::float8 / sum(transactions) as "alert rate"
from {ACTIVITY}
group by at
order by at
""",
                "percentunit",
                "share of transactions",
                {"alert rate": ORANGE},
                steps=((0.1, "red"),),
            )
        )
        .with_panel(
            lines(
                "Delay from broker to score",
                "Time from the broker's timestamp of a transaction to its score; at most 10 % more than the exact "
                "percentile. A backlog, such as imported history, shows as a long delay.",
                delays(
                    ", ".join(
                        (
                            percentile(0.5, "median"),
                            percentile(0.95, "95th percentile"),
                            percentile(0.99, "99th percentile"),
                        )
                    ),
                    "at",
                ),
                "s",
                "seconds",
                {"median": BLUE, "95th percentile": ORANGE, "99th percentile": PURPLE},
                steps=((30, "red"),),
            )
        )
        .with_panel(
            bars(
                "Countries",
                f"Transactions by the country of payment, {ENTITIES}: the ten most frequent.",
                top("country"),
                "short",
                "country",
                {"transactions": BLUE},
                height=8,
            )
        )
        .with_panel(
            bars(
                "Categories",
                f"Transactions by the merchant's category, {ENTITIES}: the ten most frequent.",
                top("category"),
                "short",
                "category",
                {"transactions": GREEN},
                height=8,
            )
        )
        .with_row(build.Row("Streams"))
        .with_panel(
            rows(
                "State of the streams",
                "What each stream last said of itself, and how long ago. A running stream whose heartbeat is older "
                "than a minute is dead or cut off.",
                """
select stream, state, model_version as "model version", extract(epoch from now() - heartbeat_at)::float8 as heartbeat,
       detail
from monitoring.leases
order by stream
""",
                height=6,
            ).override_by_name(
                "heartbeat",
                fields(
                    unit="s",
                    decimals=0,
                    thresholds={
                        "mode": "absolute",
                        "steps": [
                            {"color": "green", "value": None},
                            {"color": "orange", "value": 60},
                            {"color": "red", "value": 300},
                        ],
                    },
                    color={"mode": "thresholds"},
                    custom_cellOptions={"type": "color-text"},
                ),
            )
        )
        .with_panel(
            gauges(
                "Time since the last commit",
                "Per stream, the time since it last committed a range of a Kafka partition. It also grows while "
                "nothing arrives.",
                """
select stream, extract(epoch from now() - max(committed_at))::float8 as "since the last commit"
from monitoring.streams
group by stream
order by stream
""",
                "s",
                (60, "orange"),
                (300, "red"),
            )
        )
        .with_panel(
            gauges(
                "Events waiting for a score",
                "Lag of the fraud stream: per Kafka partition, how many events the transaction stream has read that "
                "the fraud stream has not.",
                """
select t.topic || ' ' || t.partition as partition, greatest(t.next_offset - f.next_offset, 0) as "events waiting"
from monitoring.streams t
join monitoring.streams f on f.topic = t.topic and f.partition = t.partition and f.stream = 'fraud_stream'
where t.stream = 'transaction_stream'
order by t.topic, t.partition
""",
                "short",
                (10_000, "orange"),
                (100_000, "red"),
            )
        )
        .with_panel(
            rows(
                "The books",
                "Per stream and Kafka partition: every offset is a stored row, a dead letter, a duplicate, without a "
                "record, or was lost to the broker's retention.",
                """
select stream, topic, partition, next_offset - first_offset as offsets, stored, dead_letters as "dead letters",
       duplicates, without_record as "without a record", lost, late, committed_at as "last commit"
from monitoring.streams
order by stream, topic, partition
""",
                empty="no stream has read anything yet",
            ).override_by_name("last commit", fields(unit="dateTimeFromNow"))
        )
        .with_panel(
            lines(
                "Dead letters by reason",
                "Records that could not be stored, by the time they were set aside; docs/events.md explains the "
                "reasons.",
                """
select $__timeGroupAlias(at,$__interval), reason as metric, count(*) as records
from monitoring.dead_letters
where $__timeFilter(at)
group by 1, 2
order by 1, 2
""",
                "short",
                "records",
                {},
                bars=True,
                empty="no dead letter in this time",
            )
        )
        .with_row(build.Row("Alerts"))
        .with_panel(latest_alerts())
    )
