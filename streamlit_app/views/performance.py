"""Model performance: the champion and its history, and how well its scores find the fraud that is known by now."""

from datetime import datetime

import pandas
import streamlit as st

from include.streams import FRAUD_STREAM, TRANSACTION_STREAM
from streamlit_app import by_hand, champion, charts, data, words

PERIODS = {"24 hours": 1, "7 days": 7, "30 days": 30, "90 days": 90}
TRAINING_METRICS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "precision_at_threshold": "precision",
    "recall_at_threshold": "recall",
}


def no_champion(streams: pandas.DataFrame) -> None:
    stored = streams.set_index("stream")["transactions"].get(TRANSACTION_STREAM, 0)
    st.info(
        f"**There is no champion model yet**; {stored:,} transactions are stored to train one from. "
        + (
            "The first run of `retrain_isolation_forest` in Airflow trains and registers it; the fraud stream then "
            "starts to score by itself."
            if stored
            else "First switch on `produce_transactions` and `stream_transactions` in Airflow: a model learns from "
            "stored transactions."
        ),
        icon=":material/hourglass_top:",
    )


def champion_figures(model: pandas.Series, role: str) -> None:
    metrics = model["metrics"]
    trained = f"{model['trained_from']:%d %b} – {model['trained_to']:%d %b %Y}"
    figures = [
        ("Champion" if "champion" in role else "Scoring now", f"Version {model['version']}",
         f"{model['family'].replace('_', ' ')}, registered {words.when(model['created_at'])} UTC"),
        ("Trained on", trained, "Event time of the transactions that it learned from."),
        ("Alert threshold", f"{model['threshold']:.3f}", "A score at or above it is an alert."),
        ("Average precision", percent(metrics.get("average_precision")),
         "At training, on time later than what it learned from, with the labels known then."),
        ("AUC", number(metrics.get("auc")), "At training, likewise."),
    ]  # fmt: skip
    for column, (label, value, note) in zip(st.columns([1, 1.5, 1, 1, 1]), figures, strict=True):
        column.metric(label, value, help=note, border=True, height="stretch")


def decision_rule(model: pandas.Series) -> None:
    """From which scores on the champion decides, why, and what was expected of that."""
    rule = model["metrics"].get("decision_rule")
    if not rule:
        return
    why = {
        "money": "where caught fraud is worth most after the costs of reviews and declined honest payments",
        "capacity": "by what the team can read: too few frauds are known to count money",
        "fixed share": "by a fixed share of transactions",
    }[rule["rule"]]
    money, block = rule["expected_money_a_day"], model["block_threshold"]
    st.caption(
        f"The threshold was chosen {why}. Expected a day: **{rule['expected_alerts_a_day']:,.0f} alerts** of "
        f"{rule['transactions_a_day']:,.0f} transactions"
        + ("" if money is None else f", worth **{money:,.0f}**")
        + f"; the team can read {rule['alerts_per_day']:,}. "
        + (
            "No score is high enough to decline payments unread."
            if pandas.isna(block)
            else f"From {block:.3f} on payments are to be declined, {rule['expected_blocks_a_day']:,.0f} a day."
        )
    )


def held_back(period: dict[str, datetime]) -> None:
    """The days on which there were more alerts than the team can read."""
    days = data.slow("alert_days", **period)
    over = days[days["held_back"] > 0]
    for _, day in over.tail(3).iterrows():
        st.warning(
            f"**{day['held_back']:,} alerts of {day['day']:%d %b} are held back**: {day['alerts']:,} were raised and "
            f"the team can read {int(day['capacity']):,}. The most suspicious are in the inbox; the others are under "
            "*Held back*.",
            icon=":material/stacks:",
        )


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def version_history(models: pandas.DataFrame, roles: dict[int, str]) -> None:
    rows = pandas.DataFrame(
        {
            "version": models["version"],
            "role": [roles.get(int(version), "") for version in models["version"]],
            "family": models["family"].str.replace("_", " "),
            "registered": models["created_at"],
            "trained from": models["trained_from"],
            "trained to": models["trained_to"],
            "threshold": models["threshold"],
        }
    )
    for key, title in TRAINING_METRICS.items():
        rows[title] = [metrics.get(key) for metrics in models["metrics"]]
    day = st.column_config.DatetimeColumn(format="DD MMM YYYY", timezone="UTC")
    st.dataframe(
        rows,
        hide_index=True,
        height=min(38 * (len(rows) + 1), 300),
        column_config={
            "registered": st.column_config.DatetimeColumn(
                "registered (UTC)", format="DD MMM YYYY, HH:mm", timezone="UTC"
            ),
            "trained from": day,
            "trained to": day,
            "threshold": st.column_config.NumberColumn(format="%.3f"),
            "AUC": st.column_config.NumberColumn(format="%.3f"),
        }
        | {
            name: st.column_config.NumberColumn(format="percent")
            for name in ("average precision", "precision", "recall")
        },
    )  # fmt: skip


def over_time(daily: pandas.DataFrame, models: pandas.DataFrame) -> None:
    settled = data.live("settled_until")["at"][0]
    left, right = st.columns([3, 2])
    with left:
        st.subheader("Precision, recall and average precision per day")
        if daily["frauds"].sum() == 0:
            st.info(
                "**No fraud of this period is settled yet.** Frauds are reported hours to days late; labels are "
                f"settled until {words.when(settled)} UTC. Choose a longer period, or wait.",
                icon=":material/hourglass_top:",
            )
        else:
            st.altair_chart(charts.measures_per_day(daily[daily["settled"] > 0], models))
    with right:
        st.subheader("Alerts and known frauds per day")
        st.altair_chart(charts.outcomes_per_day(daily))
    st.caption(
        f"Measured on the {daily['settled'].sum():,} of {daily['transactions'].sum():,} scored transactions that are "
        f"settled: older than {words.when(settled)} UTC, so that a transaction without a label counts as not fraud. "
        "Dashed lines: a model version was registered; what it scored of earlier days was part of what it learned from."
    )


def distribution_and_confusion(
    period: dict[str, datetime], version: int | None, threshold: float | None
) -> None:
    bins = data.slow("score_distribution", **period, version=version)
    counts = data.slow("confusion", **period, version=version)
    if bins.empty:
        st.info(
            f"Version {version} has scored nothing in this period. Choose another version or a longer period."
        )
        return
    left, right = st.columns([3, 2])
    with left:
        st.subheader("Scores by class")
        st.altair_chart(charts.score_distribution(bins, threshold))
        if version is None:
            st.caption("Each version has a threshold of its own; the line is the champion's.")
    with right:
        st.subheader("Decisions at the threshold")
        st.altair_chart(charts.confusion(counts))
        unknown = int(counts.loc[counts["is_fraud"].isna(), "transactions"].sum())
        st.caption(f"{unknown:,} younger transactions are not settled and are left out.")


def scenarios_and_money(period: dict[str, datetime], version: int | None) -> None:
    scenarios = data.slow("scenarios", **period, version=version)
    money = data.slow("fraud_amounts", **period, version=version)
    left, right = st.columns([3, 2])
    if not scenarios.empty:
        with left:
            st.subheader("Recall by kind of fraud")
            st.altair_chart(charts.recall_per_scenario(scenarios))
            st.caption("Where the ground truth names the kind; the models never see it.")
    if not money.empty:
        with right:
            st.subheader("Money in frauds")
            st.dataframe(
                money.assign(share=money["caught_amount"] / money["fraud_amount"]),
                hide_index=True,
                column_config={
                    "fraud_amount": st.column_config.NumberColumn("in all", format="%.2f"),
                    "caught_amount": st.column_config.NumberColumn("in alerted ones", format="%.2f"),
                    "share": st.column_config.NumberColumn("share alerted", format="percent"),
                },
            )


def decision_diff() -> None:
    """The newest comparison of a version with what was decided."""
    last = data.slow("decision_diff")
    if last.empty:
        return
    result = last.loc[0, "result"]
    total, daily = result["total"], result["alerts_a_day"]
    st.subheader(f"What version {result['version']} would decide otherwise")
    st.caption(
        f"At a threshold of {result['threshold']:.4f}, on {total['transactions']:,} transactions from "
        f"{result['start'][:16]} to {result['end'][:16]} UTC, against what was decided then; compared "
        f"{words.when(last.loc[0, 'at'])} UTC by the DAG `decision_diff` or `fraudstream diff`."
    )
    figures = [
        ("Alerts gained", f"{total['gained']:,}", "It alerts, and no alert was raised."),
        ("Alerts lost", f"{total['lost']:,}", "An alert was raised, and it does not alert."),
        ("Alerts a day", f"{daily['candidate']:,.0f}", f"Instead of {daily['stored']:,.0f}."),
        ("Frauds caught", f"{total['candidate']['caught']:,}",
         f"Instead of {total['stored']['caught']:,}, of {total['frauds']:,} that are known."),
        ("Money", f"{result['net_money']:+,.0f}",
         f"Amounts of caught fraud {result['money']:+,.0f}, and what more or fewer reviews cost."),
    ]  # fmt: skip
    for column, (title, value, note) in zip(st.columns(len(figures)), figures, strict=True):
        column.metric(title, value, help=note, border=True)
    left, right = st.columns(2)
    for column, title, parts in (
        (left, "kind of fraud", result["per_scenario"]),
        (right, "customers", result["per_group"]),
    ):
        rows = [
            {title: name, "transactions": part["transactions"], "gained": part["gained"], "lost": part["lost"],
             "frauds": part["frauds"], "caught": part["stored"]["caught"], "would catch": part["candidate"]["caught"]}
            for name, part in parts.items()
        ]  # fmt: skip
        column.dataframe(pandas.DataFrame(rows), hide_index=True)
    for title, examples in (("Gained", result["gained"]), ("Lost", result["lost"])):
        with st.expander(f"{title}: the {len(examples)} largest amounts"):
            st.dataframe(pandas.DataFrame(examples), hide_index=True)


def latest_alerts() -> None:
    st.subheader("Latest alerts")
    alerts = data.live("alerts", inbox="all", limit=10)
    if alerts.empty:
        st.caption("No alert so far.")
        return
    rows = pandas.DataFrame(
        {
            "at": alerts["created_at"],
            "amount": alerts["amount"],
            "score": alerts["score"],
            "version": alerts["model_version"],
            "reasons": [" · ".join(words.reasons(items)[:2]) for items in alerts["reasons"]],
        }
    )
    st.dataframe(
        rows,
        hide_index=True,
        height="content",
        column_config={
            "at": st.column_config.DatetimeColumn(
                "at (UTC)", format="DD MMM, HH:mm:ss", timezone="UTC", width=110
            ),
            "amount": st.column_config.NumberColumn(format="%.2f"),
            "score": st.column_config.NumberColumn(format="%.3f", width=60),
            "version": st.column_config.NumberColumn(width=60),
            "reasons": st.column_config.TextColumn("strongest reasons", width=700),
        },
    )


def parity() -> None:
    last = data.slow("parity")
    if last.empty:
        st.caption(
            "Logged features were not compared with recomputed ones yet: the DAG `parity` does it daily."
        )
        return
    rows, checked_at, features = last.loc[0, ["rows", "checked_at", "features"]]
    differing = (
        f"**these differ, so no model is promoted: {', '.join(features)}**" if features else "none differs"
    )
    st.caption(
        f"Logged features against recomputed ones, {words.when(checked_at)} UTC: {rows:,} compared, {differing}."
    )


@st.fragment(run_every=data.SLOW)
def performance() -> None:
    with data.explained():
        streams, models = data.streams(), data.live("models")
        if models.empty:
            no_champion(streams)
            return
        aliases: dict[int, str] = {}
        with data.explained():
            aliases = data.aliases()
        roles = champion.roles(streams, aliases)
        model = champion.of(models, roles)
        if model is not None and st.session_state.pop(by_hand.WAITS, False):
            st.rerun()
        if model is None:
            st.info(
                "**No version is champion.** Versions are registered, but none has the alias `champion` in MLflow. "
                "Set it there, or run `retrain_isolation_forest` in Airflow.",
                icon=":material/hourglass_top:",
            )
        else:
            champion_figures(model, roles[int(model["version"])])
            decision_rule(model)
        version_history(models, roles)
        parity()

        left, right, _ = st.columns([2, 1.3, 2], vertical_alignment="bottom")
        days = left.segmented_control(
            "Period, back from the newest scored transaction", list(PERIODS), default="30 days", required=True,
            key="period", bind="query-params",
        )  # fmt: skip
        chosen = right.selectbox(
            "Scored by", [None, *(int(version) for version in models["version"])], key="scored_by",
            format_func=lambda version: "any version" if version is None else f"version {version}",
        )  # fmt: skip
        period = data.period(PERIODS[days])
        daily = data.slow("daily_performance", **period) if period else None
        if period is None or daily is None or daily.empty:
            st.info(
                "**No transaction is scored yet**, so there is nothing to measure. The fraud stream says: "
                + (words.plain(streams.set_index("stream")["detail"].get(FRAUD_STREAM, "")) or "nothing."),
                icon=":material/hourglass_top:",
            )
            return
        held_back(period)
        over_time(daily, models)
        shown = model if chosen is None else models[models["version"] == chosen].iloc[0]
        distribution_and_confusion(period, chosen, None if shown is None else float(shown["threshold"]))
        scenarios_and_money(period, chosen)
        decision_diff()
        latest_alerts()


st.title("Model performance")
performance()
st.divider()
by_hand.form()
