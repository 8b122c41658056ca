"""Live overview: what flows, how fast, and whether every stream keeps up."""

from typing import Literal

import pandas
import streamlit as st

from include.settings import load
from include.streams import FRAUD_STREAM, TRANSACTION_STREAM
from include.training.first_champion import ENOUGH
from streamlit_app import charts, data, words

WINDOWS = {"15 min": (900, 15), "1 h": (3600, 60), "6 h": (6 * 3600, 300), "24 h": (86400, 1200)}
ROLES = {
    "producer": ("Producer", "writes to Kafka"),
    TRANSACTION_STREAM: ("Transaction stream", "stores what it reads"),
    FRAUD_STREAM: ("Fraud stream", "scores what it reads"),
}
COLOURS: dict[str, Literal["green", "gray", "red"]] = {"running": "green", "stopped": "gray", "failed": "red"}
SILENT_AFTER = 60  # seconds without a heartbeat


def stream_cards(streams: pandas.DataFrame) -> None:
    streams = streams.set_index("stream").reindex(ROLES).dropna(subset="state").reset_index()
    for column, (_, row) in zip(st.columns(len(streams)), streams.iterrows(), strict=True):
        title, does = ROLES[row["stream"]]
        with column.container(border=True, height="stretch"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{title}**", width="stretch")
                silent = row["state"] != "stopped" and row["heartbeat_seconds"] > SILENT_AFTER
                state = "silent" if silent else row["state"]
                st.badge(words.plain(state), color="red" if silent else COLOURS.get(row["state"], "orange"))
            st.caption(f"{does} · {facts(row)}")
            if row["detail"]:
                st.caption(words.plain(row["detail"]))


def facts(row: pandas.Series) -> str:
    parts = []
    if row["partitions"]:
        parts.append(f"{row['stored']:,} rows in {row['partitions']} partitions")
        parts.append(f"last commit {words.ago(row['commit_seconds'])}")
    if not pandas.isna(row["model_version"]):
        parts.append(f"model version {row['model_version']:.0f}")
    if row["stream"] == FRAUD_STREAM and row["partitions"]:
        parts.append(f"{row['behind']:,.0f} behind the transaction stream")
    parts.append(f"heartbeat {words.ago(row['heartbeat_seconds'])}")
    return " · ".join(parts)


def figures(streams: pandas.DataFrame, rows: pandas.DataFrame, window: str, seconds: int) -> None:
    by_stream = streams.set_index("stream")
    counts = data.live("alert_counts").iloc[0]
    scored, alerts = int(rows["transactions"].sum()), int(rows["alerts"].sum())
    stored = by_stream["transactions"].get(TRANSACTION_STREAM, 0)
    letters = by_stream["dead_letters"].get(TRANSACTION_STREAM, 0)
    delays = rows[["delay_p50", "delay_p95"]].tail(3).median()
    shown = [
        ("Stored so far", f"{stored:,}", "Transactions in PostgreSQL, since the start."),
        (f"Scored, last {window}", f"{scored:,}", f"{scored / seconds:,.1f} per second on average."),
        (f"Alert rate, last {window}", words.share(alerts, scored), f"{alerts:,} alerts."),
        ("Open alerts", f"{counts['open']:,}", f"Without a verdict, of {counts['alerts']:,} so far."),
        ("Delay to score", f"{delays['delay_p50']:.2f} s" if scored else "–",
         "Median from the broker to the score, of the last minutes."),
    ]  # fmt: skip
    for column, (label, value, note) in zip(st.columns(5), shown, strict=True):
        column.metric(label, value, help=note, border=True, height="stretch")
    if letters:
        st.caption(f"{letters:,} records became dead letters since the start.")


def nothing_scored(streams: pandas.DataFrame) -> None:
    scorer = streams.set_index("stream").loc[FRAUD_STREAM]
    stored = streams.set_index("stream").loc[TRANSACTION_STREAM, "transactions"]
    if scorer["state"] == "stopped":
        todo = "The fraud stream is stopped: switch on `stream_fraud_scores` in Airflow."
    elif pandas.isna(scorer["model_version"]):
        todo = (
            f"The fraud stream waits for a champion: Airflow trains the first one by itself as soon as {ENOUGH:,} "
            "transactions of the training window are stored."
        )
    else:
        todo = "The first batch is on its way."
    st.info(
        f"**No transaction is scored yet**; {stored:,} transactions are stored. {todo} This page goes on by itself.",
        icon=":material/hourglass_top:",
    )


@st.fragment(run_every=data.LIVE)
def overview(window: str) -> None:
    seconds, bucket = WINDOWS[window]
    with data.explained():
        streams = data.streams()
        stream_cards(streams)
        end = pandas.Timestamp.now("UTC").floor(f"{bucket}s")
        since = end - pandas.Timedelta(seconds=seconds)
        rows = data.live("scored_per_bucket", seconds=bucket, since=since.to_pydatetime())
        newest = data.live("latest_scores", limit=12)
        if newest.empty:
            nothing_scored(streams)
            return
        figures(streams, rows, window, seconds)
        if rows.empty:
            st.info(
                f"Nothing was scored in the last {window}; the newest score is from "
                f"{words.when(newest['scored_at'].max())} UTC. Choose a longer window, or look at the streams above.",
                icon=":material/pause_circle:",
            )
        else:
            everything(rows, bucket, since, end)
        left, right = st.columns([4, 1])
        with left:
            st.subheader("Scored last")
            latest_table(newest)
        with right:
            st.subheader("Dead letters, 24 h")
            letters = data.live("dead_letter_reasons", since=(end - pandas.Timedelta("24h")).to_pydatetime())
            if letters.empty:
                st.caption("None: every record could be read.")
            else:
                st.dataframe(
                    letters[["reason", "dead_letters"]],
                    hide_index=True,
                    column_config={
                        "dead_letters": st.column_config.NumberColumn("records", format="localized")
                    },
                )


def everything(rows: pandas.DataFrame, bucket: int, since: pandas.Timestamp, end: pandas.Timestamp) -> None:
    # Buckets without a score are zeros; the newest bucket is still filling and is left out.
    full = pandas.date_range(since, end, freq=f"{bucket}s", inclusive="left")
    rows = rows.set_index("at").reindex(full).rename_axis("at").reset_index()
    rows[["transactions", "alerts"]] = rows[["transactions", "alerts"]].fillna(0)
    rows["until"] = rows["at"] + pandas.Timedelta(seconds=bucket)
    for column, (title, chart) in zip(
        st.columns(3),
        [
            ("Scored transactions", charts.per_bucket(rows, bucket)),
            ("Alerts", charts.alerts_per_bucket(rows)),
            ("Delay", charts.delay(rows)),
        ],
        strict=True,
    ):
        column.subheader(title)
        column.altair_chart(chart)


def latest_table(newest: pandas.DataFrame) -> None:
    newest = newest.assign(decision=["alert" if alert else "" for alert in newest["is_alert"]])
    st.dataframe(
        newest,
        hide_index=True,
        height="content",
        placeholder="–",
        column_order=["scored_at", "amount", "currency", "merchant_category", "transaction_location", "device",
                      "score", "decision"],
        column_config={
            "scored_at": st.column_config.DatetimeColumn("scored at (UTC)", format="HH:mm:ss", timezone="UTC"),
            "amount": st.column_config.NumberColumn("amount", format="%.2f"),
            "merchant_category": "category",
            "transaction_location": "place",
            "score": st.column_config.ProgressColumn("score", format="%.3f", min_value=0, max_value=1, width=120),
        },
    )  # fmt: skip


st.title("Live overview")
left, right = st.columns([3, 1], vertical_alignment="bottom")
left.caption(
    f"Read from PostgreSQL every {data.LIVE} s. Streams are started and stopped in "
    f"[Airflow]({load().airflow_public_url})."
)
chosen = right.segmented_control(
    "Window", list(WINDOWS), default="15 min", required=True, key="window", bind="query-params"
)
overview(chosen)
