"""The analysts' inbox: alerts with their reasons, the customer's history, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pandas
import streamlit as st

from include.settings import load
from streamlit_app import charts, data, judging, words

INBOXES = {"open": "Open", "held_back": "Held back", "decided": "Decided", "all": "All"}
LISTED = 200
CHECK = 10  # seconds: how often new alerts are counted
EVENT = ["transaction_id", "topic", "partition", "offset"]  # tells an event from others with the same id


def event_of(alert: pandas.Series) -> dict[str, object]:
    """Which event an alert was raised on, as parameters of the queries."""
    event: dict[str, object] = alert[EVENT].astype(object).to_dict()
    return event


def key_of(event: dict[str, object]) -> str:
    """The event as a part of the keys of widgets."""
    return "/".join(str(event[name]) for name in EVENT)


def load_list(inbox: str) -> pandas.DataFrame:
    """The list as it was when it was loaded: it never moves under an analyst's hand."""
    state = st.session_state
    if state.get("inbox_loaded") != inbox or "inbox_rows" not in state:
        state.inbox_rows = data.now("alerts", inbox=inbox, limit=LISTED)
        state.inbox_loaded = inbox
        state.inbox_generation = state.get("inbox_generation", 0) + 1
    return state.inbox_rows


def forget_list() -> None:
    st.session_state.pop("inbox_rows", None)


@st.fragment(run_every=CHECK)
def news(newest: pandas.Timestamp | None) -> None:
    """Says how many alerts came since the list was loaded; loads it by itself while it is empty."""
    with data.explained():
        counts = data.live("alert_counts").iloc[0]
        st.caption(
            f"{counts['open']:,} open · {counts['confirmed']:,} confirmed as fraud · {counts['dismissed']:,} dismissed "
            f"· {counts['last_day']:,} raised in the last 24 h"
            + (
                f" · {counts['held_back']:,} held back: more than the team can read"
                if counts["held_back"]
                else ""
            )
        )
        if newest is None:
            if counts["alerts"] and "inbox_rows" not in st.session_state:
                st.rerun()
            return
        fresh = int(data.live("new_alerts", since=newest.to_pydatetime())["alerts"][0])
        if fresh and st.button(f"Show {fresh:,} new", icon=":material/refresh:", on_click=forget_list):
            st.rerun()


def inbox_table(rows: pandas.DataFrame) -> pandas.Series:
    """The list; returns the chosen alert."""
    shown = pandas.DataFrame(
        {
            "raised": rows["created_at"],
            "amount": rows["amount"],
            "score": rows["score"],
            "decline": rows["band"].map({"block": "decline"}).fillna(""),
            "reason": [next(iter(words.reasons(items)), "") for items in rows["reasons"]],
            "verdict": rows["verdict"].map({True: "fraud", False: "legitimate"}).fillna(""),
        }
    )
    if not shown["decline"].any():
        shown = shown.drop(columns="decline")
    if not shown["verdict"].any():
        shown = shown.drop(columns="verdict")
    table = st.dataframe(
        shown,
        hide_index=True,
        height=620,
        key=f"inbox_{st.session_state.inbox_generation}",
        on_select="rerun",
        selection_mode="single-row-required",
        column_config={
            "raised": st.column_config.DatetimeColumn(
                "raised (UTC)", format="DD MMM, HH:mm", timezone="UTC", width=100
            ),
            "amount": st.column_config.NumberColumn(format="%.2f"),
            "score": st.column_config.NumberColumn(format="%.3f", width=55),
            "decline": st.column_config.TextColumn("block", width=60),
            "reason": st.column_config.TextColumn("first reason", width=250),
            "verdict": st.column_config.TextColumn(width=75),
        },
    )
    chosen = table.selection.rows
    return rows.iloc[chosen[0] if chosen else 0]


FATES = {
    "refused": "**Another payment has the same id.** That one is stored. This one was refused as `id_conflict` and is "
    "shown here as it came. Model performance does not count its score.",
    "repeated": "This payment was sent again and scored again; it is stored once.",
    "unread": "The transaction itself is not stored yet: the transaction stream is behind.",
    "deleted": "The transaction itself is not stored any more.",
}


def facts(alert: pandas.Series, event: pandas.Series) -> None:
    """Why the alert was raised, and the payment that it was raised on."""
    fate = event["fate"]
    if fate == "refused":
        st.warning(FATES[fate], icon=":material/content_copy:")
    elif fate in FATES:
        st.info(FATES[fate], icon=":material/info:")
    st.markdown("**Why it was raised**")
    reasons = words.reasons(alert["reasons"])
    st.markdown(
        "\n".join(f"{i}. {words.plain(text)}" for i, text in enumerate(reasons, 1)) or "No reason was stored."
    )
    st.caption(
        f"Score {alert['score']:.3f}, threshold {alert['threshold']:.3f}, model version {alert['model_version']}; "
        f"raised {words.when(alert['created_at'])} UTC"
    )
    payment = {
        "Amount": words.money(event["amount"], event["currency"]),
        "Time (UTC)": words.when(event["timestamp"]) + (", came late" if event["late"] else ""),
    }
    customer = {"Customer": event["user_id"]}
    if fate not in ("unread", "deleted"):
        position = event[["latitude", "longitude"]]
        payment |= {
            "Merchant": ", ".join(filter(None, event[["merchant_id", "merchant_category"]])),
            "Place of payment": event["transaction_location"],
            "Position": "" if position.isna().any() else "{:.3f}, {:.3f}".format(*position),
        }
        if fate != "refused":
            customer |= {"Name": event["name"], "E-mail": event["email"]}
        customer |= {"Home": event["location"], "Device": event["device"]}
    left, right = st.columns(2)
    with left:
        describe(payment)
    with right:
        describe(customer)
    if "Name" in customer and not load().app_show_personal_data:
        st.caption("Name and e-mail are masked: this app is not set to show personal data.")


def describe(values: Mapping[str, str | None]) -> None:
    """Names and values, one a line; values are data and are shown as they are."""
    shown = {name: f"**{words.plain(value)}**" if value else "not given" for name, value in values.items()}
    st.markdown("\n".join(f"- {name}: {value}" for name, value in shown.items()))


def history(alert: pandas.Series, event: pandas.Series) -> None:
    """The customer's stored payments up to the alert's own, which stands out in the chart, stored or not."""
    until = event["timestamp"]
    rows = data.live("customer_history", user_id=event["user_id"], until=until.to_pydatetime(), limit=50)
    if event["fate"] in ("stored", "repeated"):
        st.markdown(f"**The customer's {words.last(len(rows), 'transaction')}**, up to this one")
        points = rows.assign(this=rows["transaction_id"] == alert["transaction_id"])
    else:
        st.markdown(f"**The customer's {words.last(len(rows), 'stored transaction')}** before this one")
        points = pandas.DataFrame(
            [event.to_dict() | {"transaction_id": alert["transaction_id"], "this": True}]
        )
        if len(rows):
            points = pandas.concat([points, rows.assign(this=False)])
    st.altair_chart(charts.amounts(points[charts.PAYMENT]))
    if rows.empty:
        st.caption("None is stored.")
        return
    decision = rows["is_alert"].map({True: "alert", False: ""}).fillna("not scored")
    label = rows["is_fraud"].map({True: "fraud", False: "legitimate"}).fillna("")
    shown = [
        "timestamp",
        "amount",
        "score",
        "decision",
        "label",
        "transaction_location",
        "device",
        "merchant_category",
    ]
    if not label.any():
        shown.remove("label")
    st.dataframe(
        rows.assign(decision=decision, label=label),
        hide_index=True,
        height=250,
        placeholder="–",
        column_order=shown,
        column_config={
            "timestamp": st.column_config.DatetimeColumn("time (UTC)", format="DD MMM, HH:mm", timezone="UTC"),
            "amount": st.column_config.NumberColumn(format="%.2f"),
            "merchant_category": "category",
            "transaction_location": "place",
            "score": st.column_config.NumberColumn(format="%.3f"),
            "label": st.column_config.TextColumn(help="What is known of it by now."),
        },
    )  # fmt: skip


def decide(event: dict[str, object], alert: str, is_fraud: bool) -> None:
    """Writes the verdict and takes the alert out of the list of open ones; `alert` is what the page calls it."""
    state, key = st.session_state, key_of(event)
    if not judging.close(key):
        if key != state.get("last_judged"):
            st.toast("Not noted: the page had just changed. Read this alert first.", icon=":material/block:")
        return
    with data.explained():
        note, analyst = state.get(f"note_{key}", "").strip(), state["analyst"].strip()
        data.write("add_verdict", **event, is_fraud=is_fraud, analyst=analyst, note=note)
        state.last_judged = key
        state.last_verdict = (
            f"Your last verdict: **{'fraud' if is_fraud else 'legitimate'}** on {words.plain(alert)}"
        )
        data.forget()
        forget_list()


def verdict(event: dict[str, object], alert: str) -> None:
    """The verdicts on an alert so far, and the buttons for another one, which are this alert's own."""
    for row in data.now("verdicts", **event).itertuples():
        decision = "fraud" if row.is_fraud else "legitimate"
        note = f": {words.plain(row.note)}" if row.note else ""
        st.markdown(f"**{decision}**, by {words.plain(row.analyst)} on {words.when(row.at)} UTC{note}")
    key = key_of(event)
    named = bool(st.session_state.get("analyst", "").strip())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Note", key=f"note_{key}", max_chars=500, placeholder="optional")
        choices: tuple[tuple[str, bool, Literal["primary", "secondary"]], ...] = (
            ("Fraud", True, "primary"),
            ("Legitimate", False, "secondary"),
        )
        for label, is_fraud, kind in choices:
            st.button(
                label, type=kind, key=f"verdict_{is_fraud}_{key}", disabled=not named, on_click=decide,
                args=(event, alert, is_fraud), help=None if named else "First enter your name at the top.",
            )  # fmt: skip
    if last := st.session_state.get("last_verdict"):
        st.caption(last)


def details(alert: pandas.Series) -> None:
    """One alert: verdict, reasons, payment, label and the customer's history."""
    parameters = event_of(alert)
    events = data.live("alert_event", **parameters)
    if events.empty:
        st.warning("This alert was deleted.", icon=":material/search_off:")
        return
    if load().app_show_personal_data and events["fate"][0] in ("stored", "repeated"):
        events = events.assign(**data.personal(alert["transaction_id"]).iloc[0])
    event = events.iloc[0].where(events.iloc[0].notna(), None)
    with st.container(border=True):
        verdict(parameters, f"{words.money(event['amount'], event['currency'])} by {event['user_id']}")
    facts(alert, event)
    if event["is_fraud"] is not None:
        label = "fraud" if event["is_fraud"] else "legitimate"
        st.caption(f"Known label: {label}, since {words.when(event['known_at'])} UTC.")
    history(alert, event)
    judging.drawn(key_of(parameters))


def linked_alert(transaction_id: str) -> pandas.Series | None:
    """The alert on a transaction that the address names; a choice where several events have its id."""
    alerts = data.live("alerts_of_id", transaction_id=transaction_id)
    if alerts.empty:
        st.warning("There is no alert on this transaction.", icon=":material/search_off:")
        st.code(transaction_id, language=None)
        return None
    if len(alerts) == 1:
        return alerts.iloc[0]
    chosen = st.selectbox(
        f"{len(alerts)} alerts have this id", alerts.index, key=f"alert_of_{transaction_id}",
        format_func=lambda i: f"{alerts['amount'][i]:,.2f} by {alerts['user_id'][i]}, "
        f"{words.when(alerts['timestamp'][i])} UTC",
    )  # fmt: skip
    return alerts.iloc[chosen]


def inbox() -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            chosen = st.segmented_control(
                "Show", list(INBOXES), format_func=INBOXES.__getitem__, default="open", required=True, key="inbox",
                bind="query-params",
            )  # fmt: skip
            st.text_input(
                "Your name", key="analyst", max_chars=80, persist_state="session", placeholder="for verdicts"
            )
        rows = None
        with data.explained():
            rows = load_list(chosen)
        news(None if rows is None or rows.empty else rows["created_at"].max())
        linked = st.query_params.get("transaction")
        alert = None
        if rows is not None and not rows.empty:
            alert = inbox_table(rows)
            if len(rows) == LISTED:
                st.caption(f"The newest {LISTED} are listed.")
        elif rows is not None:
            st.info(
                "**No open alert.** The streams raise alerts when a score reaches the champion's threshold."
                if chosen == "open"
                else "**Nothing here yet.**",
                icon=":material/inbox:",
            )
    with right, data.explained():
        if linked:
            st.button("Back to the list", icon=":material/arrow_back:", on_click=st.query_params.clear)
            alert = linked_alert(linked)
        if alert is not None:
            details(alert)


st.title("Alerts")
inbox()
