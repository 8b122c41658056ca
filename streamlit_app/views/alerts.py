"""The analysts' inbox: alerts with their reasons, the customer's history, and the verdict."""

import pandas
import streamlit as st

from include.settings import load
from streamlit_app import charts, data, words

INBOXES = {"open": "Open", "decided": "Decided", "all": "All"}
LISTED = 200
CHECK = 10  # seconds: how often new alerts are counted


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
        )
        if newest is None:
            if counts["alerts"] and "inbox_rows" not in st.session_state:
                st.rerun()
            return
        fresh = int(data.live("new_alerts", since=newest.to_pydatetime())["alerts"][0])
        if fresh and st.button(f"Show {fresh:,} new", icon=":material/refresh:", on_click=forget_list):
            st.rerun()


def inbox_table(rows: pandas.DataFrame) -> str:
    """The list; returns the chosen transaction."""
    shown = pandas.DataFrame(
        {
            "raised": rows["created_at"],
            "amount": rows["amount"],
            "score": rows["score"],
            "reason": [next(iter(words.reasons(items)), "") for items in rows["reasons"]],
            "verdict": rows["verdict"].map({True: "fraud", False: "legitimate"}).fillna(""),
        }
    )
    if not shown["verdict"].any():
        shown = shown.drop(columns="verdict")
    event = st.dataframe(
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
            "amount": st.column_config.NumberColumn(format="%.2f", width=70),
            "score": st.column_config.NumberColumn(format="%.3f", width=55),
            "reason": st.column_config.TextColumn("first reason", width=250),
            "verdict": st.column_config.TextColumn(width=75),
        },
    )
    chosen = event.selection.rows
    return rows["transaction_id"][chosen[0] if chosen else 0]


def facts(alert: pandas.Series, transaction: pandas.Series | None) -> None:
    st.markdown("**Why it was raised**")
    reasons = words.reasons(alert["reasons"])
    st.markdown(
        "\n".join(f"{i}. {words.plain(text)}" for i, text in enumerate(reasons, 1)) or "No reason was stored."
    )
    st.caption(
        f"Score {alert['score']:.3f}, threshold {alert['threshold']:.3f}, model version {alert['model_version']}; "
        f"raised {words.when(alert['created_at'])} UTC"
    )
    if transaction is None:
        st.info("The transaction itself is not stored yet: the transaction stream is behind.")
        return
    left, right = st.columns(2)
    position = "not given"
    if not pandas.isna(transaction["latitude"]) and not pandas.isna(transaction["longitude"]):
        position = f"{transaction['latitude']:.3f}, {transaction['longitude']:.3f}"
    merchant = [transaction[name] for name in ("merchant_id", "merchant_category") if transaction[name]]
    with left:
        describe({
            "Amount": words.money(transaction["amount"], transaction["currency"]),
            "Time (UTC)": words.when(transaction["timestamp"]) + (", came late" if transaction["late"] else ""),
            "Merchant": ", ".join(merchant) or None,
            "Place of payment": transaction["transaction_location"],
            "Position": position,
        })  # fmt: skip
    with right:
        describe({
            "Customer": transaction["user_id"],
            "Name": transaction["name"],
            "E-mail": transaction["email"],
            "Home": transaction["location"],
            "Device": transaction["device"],
        })  # fmt: skip
    if not load().app_show_personal_data:
        st.caption("Name and e-mail are masked: this app is not set to show personal data.")


def describe(values: dict[str, str | None]) -> None:
    """Names and values, one a line; values are data and are shown as they are."""
    shown = {name: f"**{words.plain(value)}**" if value else "not given" for name, value in values.items()}
    st.markdown("\n".join(f"- {name}: {value}" for name, value in shown.items()))


def history(alert: pandas.Series, transaction: pandas.Series | None) -> None:
    until = alert["timestamp"] if transaction is None else transaction["timestamp"]
    rows = data.live("customer_history", user_id=alert["user_id"], until=until.to_pydatetime(), limit=50)
    st.markdown(f"**The customer's last {len(rows)} transactions**, up to this one")
    if rows.empty:
        st.caption("None is stored.")
        return
    st.altair_chart(charts.amounts(rows, alert["transaction_id"]))
    decision = rows["is_alert"].map({True: "alert", False: ""}).fillna("not scored")
    label = rows["is_fraud"].map({True: "fraud", False: "legitimate"}).fillna("")
    st.dataframe(
        rows.assign(decision=decision, label=label),
        hide_index=True,
        height=250,
        placeholder="–",
        column_order=["timestamp", "amount", "score", "decision", "label", "transaction_location", "device",
                      "merchant_category"],
        column_config={
            "timestamp": st.column_config.DatetimeColumn("time (UTC)", format="DD MMM, HH:mm", timezone="UTC"),
            "amount": st.column_config.NumberColumn(format="%.2f"),
            "merchant_category": "category",
            "transaction_location": "place",
            "score": st.column_config.NumberColumn(format="%.3f"),
            "label": st.column_config.TextColumn(help="What is known of it by now."),
        },
    )  # fmt: skip


def decide(transaction_id: str, is_fraud: bool) -> None:
    """Writes the verdict and takes the alert out of the list of open ones."""
    state = st.session_state
    with data.explained():
        note, analyst = state.get(f"note_{transaction_id}", "").strip(), state["analyst"].strip()
        data.write(
            "add_verdict", transaction_id=transaction_id, is_fraud=is_fraud, analyst=analyst, note=note
        )
        st.toast("Noted as fraud." if is_fraud else "Noted as legitimate.", icon=":material/check:")
        data.forget()
        forget_list()


def verdict(transaction_id: str) -> None:
    for row in data.now("verdicts", transaction_id=transaction_id).itertuples():
        decision = "fraud" if row.is_fraud else "legitimate"
        note = f": {words.plain(row.note)}" if row.note else ""
        st.markdown(f"**{decision}**, said {words.plain(row.analyst)} on {words.when(row.at)} UTC{note}")
    named = bool(st.session_state.get("analyst", "").strip())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Note", key=f"note_{transaction_id}", max_chars=500, placeholder="optional")
        for label, is_fraud, kind in (("Fraud", True, "primary"), ("Legitimate", False, "secondary")):
            st.button(
                label, type=kind, key=f"verdict_{is_fraud}", disabled=not named, on_click=decide,
                args=(transaction_id, is_fraud), help=None if named else "First enter your name at the top.",
            )  # fmt: skip


def details(transaction_id: str) -> None:
    alerts = data.live("alert", transaction_id=transaction_id)
    if alerts.empty:
        st.warning("There is no alert on this transaction.", icon=":material/search_off:")
        st.code(transaction_id, language=None)
        return
    alert = alerts.iloc[0]
    found = data.live("transaction", transaction_id=transaction_id)
    if load().app_show_personal_data and len(found):
        found = found.assign(**data.personal(transaction_id).iloc[0])
    transaction = found.iloc[0].where(found.iloc[0].notna(), None) if len(found) else None
    with st.container(border=True):
        verdict(transaction_id)
    facts(alert, transaction)
    if transaction is not None and transaction["is_fraud"] is not None:
        label = "fraud" if transaction["is_fraud"] else "legitimate"
        st.caption(f"Known label: {label}, since {words.when(transaction['known_at'])} UTC.")
    history(alert, transaction)


def inbox() -> None:
    left, right = st.columns([6, 7], gap="medium")
    with left:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            chosen = st.segmented_control(
                "Show", list(INBOXES), format_func=INBOXES.get, default="open", required=True, key="inbox",
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
        transaction_id = None
        if rows is not None and not rows.empty:
            transaction_id = inbox_table(rows)
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
        if linked or transaction_id:
            details(linked or transaction_id)


st.title("Alerts")
inbox()
