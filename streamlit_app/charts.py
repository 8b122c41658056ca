"""The charts. Times are drawn in UTC, as PostgreSQL and Kafka hold them."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas
from altair.typing import ChartType

BLUE, ORANGE, GREEN, YELLOW, GREY = "#2563a8", "#d9480f", "#2b8a3e", "#b58900", "#8a94a0"
CLASSES = {"legitimate": BLUE, "fraud": ORANGE, "not settled yet": GREY}
MEASURES = {"average_precision": "average precision", "precision": "precision", "recall": "recall"}
OUTCOMES = {
    "fraud, alerted": GREEN,
    "fraud, missed": ORANGE,
    "legitimate, alerted": YELLOW,
    "alerted, not settled yet": GREY,
}
HEIGHT = 290


def colours(names: dict[str, str], title: str | None = None) -> alt.Color:
    legend = alt.Legend(orient="top", title=title, labelLimit=300)
    return alt.Color("name:N", legend=legend, scale=alt.Scale(domain=list(names), range=list(names.values())))


def time_axis(field: str, title: str, scale: alt.Scale | None = None, **axis: Any) -> alt.X:
    scale = scale or alt.Scale(type="utc")
    return alt.X(f"{field}:T", title=title, scale=scale, axis=alt.Axis(labelOverlap=True, **axis))


def utc(time: pandas.Timestamp) -> alt.DateTime:
    """A time as Vega-Lite takes it: it would read a number as a year, and a time without a zone as the browser's."""
    return alt.DateTime(
        year=time.year, month=time.month, date=time.day, hours=time.hour, minutes=time.minute, seconds=time.second,
        utc=True,
    )  # fmt: skip


def bucket_axis(rows: pandas.DataFrame) -> alt.X:
    """The whole window of the buckets, whichever of them have a value: charts beside each other share it."""
    window = [utc(time) for time in (rows["at"].min(), rows["until"].max())]
    scale = alt.Scale(type="utc", domain=window, nice=False)
    return time_axis("at", "time of scoring (UTC)", scale, format="%H:%M", tickCount=6)


def measures_per_day(daily: pandas.DataFrame, models: pandas.DataFrame) -> ChartType:
    """Average precision, precision and recall as lines over the days, with the start of each model version."""
    long = daily.melt(
        id_vars=["day", "settled", "frauds", "alerts_settled"], value_vars=list(MEASURES), var_name="name"
    ).dropna(subset="value")
    long["name"] = long["name"].map(MEASURES)
    names = dict(zip(MEASURES.values(), (BLUE, ORANGE, GREEN), strict=True))
    first, last = daily["day"].min(), daily["day"].max()
    lines = (
        alt.Chart(long)
        .mark_line(point=alt.OverlayMarkDef(size=45), strokeWidth=2)
        .encode(
            x=time_axis("day", "day of the transaction (UTC)", format="%d %b", tickCount=min(len(daily), 12)),
            y=alt.Y("value:Q", title="share", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
            color=colours(names),
            tooltip=[
                alt.Tooltip("utcyearmonthdate(day):T", title="day"),
                alt.Tooltip("name:N", title="measure"),
                alt.Tooltip("value:Q", title="value", format=".1%"),
                alt.Tooltip("frauds:Q", title="frauds", format=","),
                alt.Tooltip("alerts_settled:Q", title="alerts", format=","),
                alt.Tooltip("settled:Q", title="settled transactions", format=","),
            ],
        )
    )
    starts = models[(models["created_at"] > first) & (models["created_at"] < last)]
    if starts.empty:
        return alt.layer(lines).properties(height=HEIGHT)
    starts = starts.assign(label="v" + starts["version"].astype(str))[["created_at", "label"]]
    rules = alt.Chart(starts).encode(x=alt.X("created_at:T", scale=alt.Scale(type="utc")))
    label = rules.mark_text(align="left", dx=4, color="#45525f").encode(text="label:N", y=alt.datum(0.05))
    return alt.layer(rules.mark_rule(strokeDash=[4, 4], color=GREY), label, lines).properties(height=HEIGHT)


def outcomes_per_day(daily: pandas.DataFrame) -> ChartType:
    """What became of known frauds and of alerts, as stacked bars per day."""
    counts = pandas.DataFrame(
        {
            "day": daily["day"],
            "fraud, alerted": daily["known_caught"],
            "fraud, missed": daily["known_frauds"] - daily["known_caught"],
            "legitimate, alerted": daily["alerts_settled"] - daily["caught"],
            "alerted, not settled yet": daily["alerts"]
            - daily["known_caught"]
            - (daily["alerts_settled"] - daily["caught"]),
        }
    )
    long = counts.melt(id_vars="day", var_name="name", value_name="transactions")
    return (
        alt.Chart(long)
        .mark_bar()
        .encode(
            x=alt.X(
                "utcyearmonthdate(day):O", title="day of the transaction (UTC)",
                axis=alt.Axis(format="%d %b", labelAngle=0, labelOverlap=True),
            ),
            y=alt.Y("transactions:Q", title="transactions"),
            color=colours(OUTCOMES).legend(orient="top", title=None, labelLimit=300, columns=2),
            order=alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("utcyearmonthdate(day):T", title="day"),
                alt.Tooltip("name:N", title="outcome"),
                alt.Tooltip("transactions:Q", format=","),
            ],
        )
        .transform_calculate(order=f"indexof({list(OUTCOMES)}, datum.name)")
        .properties(height=HEIGHT)
    )  # fmt: skip


def score_distribution(bins: pandas.DataFrame, threshold: float | None) -> ChartType:
    """The share of each class per score bin of 0.02, so that rare fraud is as visible as the rest."""
    bins = bins.assign(start=(bins["bin"] - 1) * 0.02, end=bins["bin"] * 0.02, name=bins["label"])
    bins["share"] = bins["transactions"] / bins.groupby("label")["transactions"].transform("sum")
    low, high = max(bins["start"].min() - 0.04, 0), min(bins["end"].max() + 0.04, 1)
    areas = (
        alt.Chart(bins)
        .mark_bar(opacity=0.55, binSpacing=0)
        .encode(
            x=alt.X("start:Q", bin="binned", title="score (higher is more suspicious)",
                    scale=alt.Scale(domain=[low, high]), axis=alt.Axis(format=".2f", tickCount=10)),
            x2="end:Q",
            y=alt.Y("share:Q", title="share of the class", stack=None, axis=alt.Axis(format="%")),
            color=colours(CLASSES),
            tooltip=[
                alt.Tooltip("name:N", title="label"),
                alt.Tooltip("start:Q", title="score from", format=".2f"),
                alt.Tooltip("end:Q", title="to", format=".2f"),
                alt.Tooltip("share:Q", title="share of the class", format=".1%"),
                alt.Tooltip("transactions:Q", format=","),
            ],
        )
    )  # fmt: skip
    if threshold is None:
        return alt.layer(areas).properties(height=HEIGHT)
    at = alt.Chart(pandas.DataFrame({"x": [threshold], "label": [f"threshold {threshold:.3f}"]})).encode(
        x="x:Q"
    )
    right = threshold > (low + high) / 2
    label = at.mark_text(
        align="right" if right else "left", dx=-5 if right else 5, baseline="top", fontWeight=600
    )
    return alt.layer(
        areas, at.mark_rule(strokeDash=[5, 3], strokeWidth=1.5), label.encode(text="label:N", y=alt.value(2))
    ).properties(height=HEIGHT)


def confusion(counts: pandas.DataFrame) -> ChartType:
    """Decision against settled label: how many, and what share of its class."""
    known = counts.dropna(subset="is_fraud")
    cells = []
    for fraud in (True, False):
        total = known.loc[known["is_fraud"] == fraud, "transactions"].sum()
        for alert in (True, False):
            n = known.loc[(known["is_fraud"] == fraud) & (known["is_alert"] == alert), "transactions"].sum()
            share = f"{n / total:.1%} of {'fraud' if fraud else 'legitimate'}" if total else "none settled"
            cells.append(
                {
                    "label": "fraud" if fraud else "legitimate",
                    "decision": "alert" if alert else "no alert",
                    "count": f"{n:,}",
                    "share": share,
                    "name": "right" if fraud == alert else "wrong",
                }
            )
    base = alt.Chart(pandas.DataFrame(cells)).encode(
        x=alt.X("label:N", title="settled label", sort=["fraud", "legitimate"],
                axis=alt.Axis(labelAngle=0, orient="top", domain=False, ticks=False)),
        y=alt.Y("decision:N", title="decision", sort=["alert", "no alert"],
                axis=alt.Axis(domain=False, ticks=False)),
    )  # fmt: skip
    fill = alt.Color(
        "name:N", legend=None, scale=alt.Scale(domain=["right", "wrong"], range=["#d7e6f5", "#fbe0d3"])
    )
    boxes = base.mark_rect(cornerRadius=4, stroke="white", strokeWidth=6).encode(color=fill)
    count = base.mark_text(fontSize=22, fontWeight=600, dy=-8, color="#1c2733").encode(text="count:N")
    share = base.mark_text(fontSize=12, dy=14, color="#45525f").encode(text="share:N")
    return alt.layer(boxes, count, share).properties(height=HEIGHT)


def recall_per_scenario(scenarios: pandas.DataFrame) -> ChartType:
    """The share of the settled frauds of each scenario that raised an alert."""
    rows = scenarios.assign(
        recall=scenarios["caught"] / scenarios["frauds"],
        scenario=scenarios["scenario"].str.replace("_", " "),
        text=[f"{c:,} of {n:,}" for c, n in zip(scenarios["caught"], scenarios["frauds"], strict=True)],
    )
    base = alt.Chart(rows).encode(
        x=alt.X("recall:Q", title="share of frauds alerted", scale=alt.Scale(domain=[0, 1.15]),
                axis=alt.Axis(format="%", values=[0, 0.2, 0.4, 0.6, 0.8, 1])),
        y=alt.Y("scenario:N", title=None, sort="-x", axis=alt.Axis(labelLimit=220)),
        tooltip=["scenario", "frauds", "caught", alt.Tooltip("recall", format=".1%")],
    )  # fmt: skip
    text = base.mark_text(align="left", dx=5).encode(text="text:N")
    return alt.layer(base.mark_bar(color=BLUE), text).properties(height=max(30 * len(rows) + 60, 120))


def per_bucket(rows: pandas.DataFrame, seconds: int) -> ChartType:
    """Scored transactions per second over time."""
    rows = rows.assign(rate=rows["transactions"] / seconds)
    return (
        alt.Chart(rows)
        .mark_area(color=BLUE, opacity=0.25, line={"color": BLUE, "strokeWidth": 2}, interpolate="step-after")
        .encode(
            x=bucket_axis(rows),
            y=alt.Y("rate:Q", title="transactions per second"),
            tooltip=[
                alt.Tooltip("utchoursminutesseconds(at):T", title="from"),
                alt.Tooltip("rate:Q", title="per second", format=".2f"),
                alt.Tooltip("transactions:Q", format=","),
            ],
        )
        .properties(height=HEIGHT)
    )


def alerts_per_bucket(rows: pandas.DataFrame) -> ChartType:
    """Alerts over time."""
    return (
        alt.Chart(rows)
        .mark_bar(color=ORANGE)
        .encode(
            x=bucket_axis(rows),
            x2="until:T",
            y=alt.Y("alerts:Q", title="alerts", axis=alt.Axis(tickMinStep=1, format="d")),
            y2=alt.datum(0),
            tooltip=[
                alt.Tooltip("utchoursminutesseconds(at):T", title="from"),
                alt.Tooltip("alerts:Q", format=","),
                alt.Tooltip("transactions:Q", title="scored", format=","),
            ],
        )
        .properties(height=HEIGHT)
    )


def delay(rows: pandas.DataFrame) -> ChartType:
    """How long a transaction takes from the broker to its score: median and 95th percentile."""
    names = {"delay_p50": "median", "delay_p95": "95th percentile"}
    long = rows.melt(id_vars="at", value_vars=list(names), var_name="name", value_name="seconds").dropna()
    long["name"] = long["name"].map(names)
    return (
        alt.Chart(long)
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=15))
        .encode(
            x=bucket_axis(rows),
            y=alt.Y("seconds:Q", title="seconds from broker to score"),
            color=colours({"median": BLUE, "95th percentile": ORANGE}),
            tooltip=[
                alt.Tooltip("utchoursminutesseconds(at):T", title="from"),
                alt.Tooltip("name:N", title="delay"),
                alt.Tooltip("seconds:Q", format=".2f"),
            ],
        )
        .properties(height=HEIGHT)
    )


PAYMENT = [
    "transaction_id", "timestamp", "amount", "merchant_category", "transaction_location", "device", "this",
]  # fmt: skip


def amounts(payments: pandas.DataFrame) -> ChartType:
    """A customer's payments (columns `PAYMENT`) over time; those that are `this` stand out."""
    history = payments.assign(name=payments["this"].map({True: "this one", False: "earlier"}))
    return (
        alt.Chart(history)
        .mark_circle(opacity=0.9)
        .encode(
            x=time_axis("timestamp", "time of the transaction (UTC)", format="%d %b, %H:%M", tickCount=5),
            y=alt.Y("amount:Q", title="amount", scale=alt.Scale(zero=True)),
            size=alt.Size(
                "name:N", legend=None, scale=alt.Scale(domain=["earlier", "this one"], range=[50, 160])
            ),
            color=colours({"earlier": BLUE, "this one": ORANGE}),
            tooltip=[
                "transaction_id",
                "timestamp",
                "amount",
                "merchant_category",
                "transaction_location",
                "device",
            ],
        )
        .properties(height=240)
    )
