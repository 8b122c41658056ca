"""The form that scores a transaction which somebody typed in, as the stream would score it now."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas
import psycopg
import sqlalchemy
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from include import queries
from include.events.fields import Field
from include.events.transaction import CATEGORIES, FIELDS, NUMBERS, Rejected, Transaction, decode
from include.features import behaviour, closed_days, known_frauds
from include.models import explain
from include.models.scorer import Scorer
from include.settings import load
from include.streams import scoring
from streamlit_app import champion, data, words

SHOWN = [field for field in FIELDS if not field.personal and field.name not in ("transaction_id", "user_id")]
COLUMNS = 4  # fields beside one another


class Scored(NamedTuple):
    """A score in [0, 1], the reasons for it, and (F,) the vector and each feature's push in log odds."""

    score: float
    is_alert: bool
    reasons: list[explain.AlertReason]
    vector: np.ndarray
    attributions: np.ndarray
    earlier_payments: int


def score(
    scorer: Scorer,
    transaction: Transaction,
    customer: np.ndarray,
    merchant: np.ndarray,
    frauds: np.ndarray | None = None,
    days: np.ndarray | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
) -> Scored:
    """The score of one transaction that comes after the given states, which stay as they are.

    customer, merchant: (1,). frauds: known of its entities (include.features.known_frauds). days: states of its values
    (include.features.closed_days). names: of the shop's own fields (include.features.extra_fields).
    """
    columns = behaviour.columns([transaction])
    of_merchant = np.array([0 if transaction.merchant_id else -1])
    values, day_of = closed_days.values_of(columns.entities)
    days = behaviour.new_day_state(len(values)) if days is None else days.copy()
    vectors = behaviour.compute(
        customer.copy(), np.array([0]), columns, merchant.copy(), of_merchant, frauds, days, day_of
    )
    value = scorer.score(vectors)
    why = explain.reasons(scorer, vectors, [transaction], columns.previous_country, names)[0]
    attributions = scorer.attributions(vectors)[0]
    earlier = int(customer["count"][0])
    return Scored(float(value[0]), bool(scorer.is_alert(value)[0]), why, vectors[0], attributions, earlier)


def read(fields: dict[str, object], now: datetime) -> Transaction:
    """The transaction of the form's fields, by the same rules as an event from Kafka.

    Raises:
        Rejected: a field breaks a rule.
    """
    settings = load()
    event = {"transaction_id": f"by-hand-{uuid.uuid4()}"} | {
        k: v for k, v in fields.items() if v not in (None, "")
    }
    tolerance = timedelta(seconds=settings.future_tolerance_seconds)
    value = msgspec.json.encode(event)
    return decode(value, now, max_bytes=settings.max_event_bytes, future_tolerance=tolerance).transaction


def stored_states(transaction: Transaction, partition: int) -> tuple[np.ndarray, np.ndarray]:
    """The states (1,) that the stream keeps of the customer and of the merchant; new ones where it has none."""
    with data.engine().connect() as connection:
        driver = _driver(connection)
        customer = scoring.load_states(driver, scoring.CUSTOMERS, [transaction.user_id], partition)
        merchant = scoring.load_states(driver, scoring.MERCHANTS, [transaction.merchant_id or ""], partition)
    return customer, merchant


def known_of_entities(transaction: Transaction, partition: int) -> tuple[np.ndarray, np.ndarray]:
    """The frauds that the stream knows of the transaction's entities, and the states of their values."""
    with data.engine().connect() as connection:
        driver, columns = _driver(connection), behaviour.columns([transaction])
        frauds = known_frauds.counts(driver, columns.entities, columns.time)
        values, _ = closed_days.values_of(columns.entities)
        return frauds, scoring.load_states(driver, scoring.DAYS, values, partition)


def _driver(connection: sqlalchemy.Connection) -> psycopg.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


WAITS = "by_hand_waits"  # in the session: PostgreSQL was away when the form was to be drawn


@st.fragment
def form() -> None:
    """Draws the form and, once it was sent, the score with its reasons."""
    st.subheader("Score a transaction by hand")
    try:
        model = champion.current()
        values = data.slow("recent_values")
        own = data.slow("extra_fields")
        newest = data.live("latest_event")["at"][0]
    except queries.QueryError:
        st.session_state[WAITS] = True
        st.caption("The form comes back with PostgreSQL.")
        return
    if model is None:
        st.session_state[WAITS] = True
        st.caption("As soon as there is a champion, a transaction can be scored here.")
        return
    st.caption(
        "The champion scores it as if it came now: with the behaviour stored of the customer and of the merchant. "
        "Nothing is stored."
    )
    choices = {field: rows["value"].tolist() for field, rows in values.groupby("field")}
    customer = st.selectbox(
        "Customer", choices.get("user_id", []), accept_new_options=True, key="by_hand_customer", index=0,
        help="A customer of the last 2,000 transactions, or type any id.", width=420,
    )  # fmt: skip
    if not customer:
        return
    with data.explained():
        last = data.live("last_transaction", user_id=customer)
        last = last.iloc[0].replace({np.nan: None}).to_dict() if len(last) else {}
        names = dict(zip(own["field"], own["name"], strict=True))
        fields = draw_fields(customer, last, choices, newest, names)
        if fields is not None:
            answer(model, fields, last.get("partition") or 0, names)


def answer(model: pandas.Series, fields: dict[str, object], partition: int, names: Mapping[str, str]) -> None:
    """The score of the sent fields, or why a stream would refuse them."""
    try:
        transaction = read(fields, datetime.now(UTC))
    except Rejected as rejected:
        st.error(f"**This would become a dead letter**: {words.plain(rejected)}", icon=":material/block:")
        return
    scorer = data.scorer(int(model["version"]), model["sha256"])
    states = stored_states(transaction, partition)
    draw(scorer, score(scorer, transaction, *states, *known_of_entities(transaction, partition), names))


def draw_fields(
    customer: str, last: dict[str, object], choices: dict[str, list[str]], newest: pandas.Timestamp,
    names: Mapping[str, str],
) -> dict[str, object] | None:  # fmt: skip
    """The fields, filled in from the customer's last transaction; None until the form was sent.

    names: of the shop's own fields; those without one are left out.
    """
    named = [field._replace(title=names.get(field.name, field.title)) for field in SHOWN]
    shown = [field for field in named if field.name not in (*NUMBERS, *CATEGORIES) or field.name in names]
    proposed: dict[str, object] = {"amount": 50.0} | last | {"timestamp": proposed_time(newest)}
    values: dict[str, object] = {"user_id": customer}
    with st.form(f"by_hand_{customer}", border=True):
        rows = len(shown) // COLUMNS + 1  # the button comes after the last field
        cells = [cell for _ in range(rows) for cell in st.columns(COLUMNS, vertical_alignment="bottom")]
        for field, cell in zip(shown, cells, strict=False):
            value, options = proposed.get(field.name), choices.get(field.name, [])
            values[field.name] = draw_field(cell, field, f"by_hand_{field.name}_{customer}", value, options)
        sent = cells[len(shown)].form_submit_button("Score it", type="primary", width="stretch")
    return values if sent else None


def proposed_time(newest: pandas.Timestamp) -> datetime:
    """Now, or where imported history lies in the past, a minute after its newest event."""
    now = datetime.now(UTC)
    if pandas.isna(newest) or now - newest < timedelta(days=1):
        return now
    last: datetime = newest.to_pydatetime()
    return last + timedelta(minutes=1)


def draw_field(
    cell: DeltaGenerator, field: Field, key: str, value: Any, options: list[str]
) -> datetime | float | str | None:
    """The widget of one field of a transaction, and what is in it; None for nothing."""
    if field.kind is datetime:
        entered: datetime = cell.datetime_input(field.title, value=value.replace(tzinfo=None), key=key)
        return entered.replace(tzinfo=UTC)
    if field.kind is float:
        number: float | None = cell.number_input(
            field.title, value=value, min_value=field.minimum, max_value=field.maximum,
            step=10.0 if field.decimals else None, format=f"%.{field.decimals or 4}f",
            placeholder="not given", key=key,
        )  # fmt: skip
        return number if number is None or field.decimals is None else round(number, field.decimals)
    offered = list(dict.fromkeys([*([value] if value else []), *options]))
    chosen: str | None = cell.selectbox(
        field.title, offered, index=0 if value else None, accept_new_options=True, key=key,
        placeholder="not given",
    )  # fmt: skip
    return chosen


def draw(scorer: Scorer, scored: Scored) -> None:
    """The score against the threshold, the reasons, and on demand every feature."""
    left, right = st.columns([1, 2])
    with left.container(border=True):
        st.metric(f"Score by version {scorer.version}", f"{scored.score:.3f}")
        decision = "alert" if scored.is_alert else "no alert"
        st.badge(decision, color="red" if scored.is_alert else "green")
        st.caption(f"The threshold is {scorer.threshold:.3f}.")
    with right.container(border=True):
        st.markdown("**What raises the score**" if scored.reasons else "**Nothing raises the score**")
        st.markdown(
            "\n".join(f"{i}. {words.plain(text)}" for i, text in enumerate(words.reasons(scored.reasons), 1))
        )
        st.caption(
            f"Compared with {scored.earlier_payments:,} earlier payments of this customer."
            if scored.earlier_payments
            else "The stream has not scored this customer yet: the payment counts as the first one."
        )
    with st.expander("All features"):
        rows = pandas.DataFrame(
            {"feature": behaviour.FEATURES, "value": scored.vector, "push in log odds": scored.attributions}
        ).sort_values("push in log odds", ascending=False)
        st.dataframe(rows, hide_index=True, height=320, column_config={
            "value": st.column_config.NumberColumn(format="%.3f"),
            "push in log odds": st.column_config.NumberColumn(
                format="%+.3f", help="How much the feature raises the score; negative lowers it."
            ),
        })  # fmt: skip
