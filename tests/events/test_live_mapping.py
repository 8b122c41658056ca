"""A topic with other field names is decoded as strictly as one with ours."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from include.events.live_mapping import transaction_decoder
from include.events.mapping import MappingError
from include.events.strict_json import Reason, Rejected
from include.events.transaction import CATEGORIES, NUMBERS, decode
from include.settings import Settings
from tests.builders import NOW, event, event_bytes
from tests.conftest import read

LIMITS = {"max_bytes": 65_536, "future_tolerance": timedelta(minutes=5)}
MAPPING = """
fields:
  transaction_id: id
  user_id: customer
  timestamp: {column: at, since: 1970-01-01, unit: milliseconds}
  amount: {column: cents, factor: 0.01}
  currency: {constant: EUR}
  full_name: {text: "{first} {last}"}
label: {column: fraud, fraud: ["true"], honest: ["false"]}
"""
AT = int(NOW.timestamp() * 1000)


@pytest.fixture
def mapped(tmp_path):
    path = tmp_path / "mapping.yaml"
    path.write_text(MAPPING)
    decoder = transaction_decoder(Settings(_env_file=None, home=tmp_path, mapping=path))
    return lambda value: decoder(value, NOW, **LIMITS)


def foreign(**fields) -> bytes:
    content = {
        "id": "t1",
        "customer": 17,
        "at": AT,
        "cents": 4250,
        "first": "Zoë",
        "last": "Ω",
        "till": 9,
    } | fields
    return json.dumps({name: value for name, value in content.items() if value is not None}).encode()


def test_fields_are_translated(mapped):
    decoded = mapped(foreign(fraud=True))
    transaction = decoded.transaction
    assert (transaction.transaction_id, transaction.user_id, transaction.timestamp) == ("t1", "17", NOW)
    assert (transaction.amount, transaction.currency, transaction.full_name) == (42.5, "EUR", "Zoë Ω")
    assert (decoded.is_fraud, decoded.unknown_fields) == (True, 1)
    assert mapped(foreign()).is_fraud is None
    assert (
        mapped(foreign(fraud=True)).fingerprint == decoded.fingerprint != mapped(foreign(cents=1)).fingerprint
    )


def test_without_a_mapping_the_decoder_is_the_usual_one(tmp_path):
    assert transaction_decoder(Settings(_env_file=None, home=tmp_path)) is decode


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, Reason.TOMBSTONE, "no value"),
        (b" " * 70_000, Reason.TOO_LARGE, "70000 bytes"),
        (b"{", Reason.INVALID_JSON, "malformed"),
        (b"\xff", Reason.INVALID_ENCODING, "not UTF-8"),
        (b"[" * 100_000, Reason.TOO_LARGE, "bytes"),
        (b"[" * 60_000, Reason.TOO_DEEP, "levels"),
        (b"[]", Reason.NOT_AN_OBJECT, "no object"),
        (foreign()[:-1] + b', "id": "t2"}', Reason.DUPLICATE_KEY, "twice"),
        (foreign(id=None), Reason.MISSING_FIELD, "transaction_id: missing"),
        (foreign(cents=None), Reason.MISSING_FIELD, "amount: missing"),
        (foreign(cents="many"), Reason.WRONG_TYPE, "amount: column 'cents' is no number"),
        (foreign(cents=4250.5), Reason.TOO_MANY_DECIMALS, "amount"),
        (foreign(cents=-1), Reason.OUT_OF_RANGE, "amount"),
        (
            foreign(at="noon"),
            Reason.INVALID_TIMESTAMP,
            "timestamp: column 'at' is not a number of milliseconds",
        ),
        (foreign(at=AT + 10**7), Reason.IN_THE_FUTURE, "timestamp"),
        (foreign(id={"a": 1}), Reason.WRONG_TYPE, "transaction_id: column 'id' is an object or array"),
        (foreign(fraud="maybe"), Reason.WRONG_TYPE, "label: column 'fraud' is in none"),
        (foreign(first="a\0b"), Reason.INVALID_TEXT, "NUL"),
        (foreign()[:-1] + b', "x": "\\ud800"}', Reason.INVALID_TEXT, "surrogate"),
        (event_bytes(), Reason.MISSING_FIELD, "transaction_id"),
    ],
)
def test_what_breaks_a_rule_is_rejected_with_its_reason_and_without_its_value(mapped, value, reason, detail):
    with pytest.raises(Rejected) as error:
        mapped(value)
    assert error.value.reason is reason and detail in error.value.detail
    assert "maybe" not in error.value.detail and "noon" not in error.value.detail


def test_numbers_keep_their_digits(tmp_path):
    path = tmp_path / "mapping.yaml"
    path.write_text(
        "fields: {transaction_id: transaction_id, user_id: user_id, timestamp: timestamp, amount: amount}"
    )
    decoder = transaction_decoder(Settings(_env_file=None, home=tmp_path, mapping=path))
    value = json.dumps(event(amount="X")).replace('"X"', "0.30000000000000004").encode()
    with pytest.raises(Rejected, match="more than 2 decimals"):
        decoder(value, NOW, **LIMITS)


def test_an_identity_mapping_gives_the_same_fingerprint(tmp_path):
    names = msgspec.json.decode(event_bytes()).keys() - {*NUMBERS, *CATEGORIES}
    document = {"fields": {name: name for name in names}}
    document["numbers"] = {f"my {name}": name for name in NUMBERS}
    document["categories"] = {f"my {name}": name for name in CATEGORIES}
    path = tmp_path / "mapping.yaml"
    path.write_text(json.dumps(document))
    decoder = transaction_decoder(Settings(_env_file=None, home=tmp_path, mapping=path))
    value = event_bytes(transaction_location="Ελλάδα", amount=0.1)
    assert decoder(value, NOW, **LIMITS) == decode(value, NOW, **LIMITS)


def test_a_mapping_that_cannot_be_used_says_so(tmp_path):
    path = tmp_path / "mapping.yaml"
    path.write_text('fields: {transaction_id: {text: "{row}"}, user_id: u, timestamp: t, amount: a}')
    with pytest.raises(MappingError, match="a topic has no row numbers"):
        transaction_decoder(Settings(_env_file=None, home=tmp_path, mapping=path))
    with pytest.raises(ValueError, match="FRAUDSTREAM_MAPPING: there is no file"):
        Settings(_env_file=None, home=tmp_path, mapping=tmp_path / "absent.yaml")


NESTED = """
fields:
  transaction_id: after.id
  user_id: after.user
  timestamp: {column: after.at, since: 1970-01-01, unit: microseconds}
  amount: {column: after.sum, minor_units: true}
  currency: after.currency
  device: source.device
missing: [NULL]
"""


def test_paths_minor_units_and_words_for_missing_values(tmp_path):
    path = tmp_path / "mapping.yaml"
    path.write_text(NESTED)
    decoder = transaction_decoder(Settings(_env_file=None, home=tmp_path, mapping=path))
    after = {"id": 7, "user": "u", "at": AT * 1000, "sum": 5000, "currency": "jpy"}
    record = {"before": None, "after": after, "source": {"device": "NULL"}, "op": "c"}
    decoded = decoder(json.dumps(record).encode(), NOW, **LIMITS)
    transaction = decoded.transaction
    assert (transaction.transaction_id, transaction.timestamp, transaction.amount) == ("7", NOW, 5000)
    assert (transaction.currency, transaction.device) == ("JPY", None)
    assert decoded.unknown_fields == 2  # before and op
    with pytest.raises(Rejected, match="amount: minor_units: the row has no currency"):
        decoder(json.dumps({"after": after | {"currency": None}}).encode(), NOW, **LIMITS)
    with pytest.raises(Rejected, match="transaction_id: missing"):
        decoder(json.dumps({"before": after}).encode(), NOW, **LIMITS)


def test_an_amount_that_is_unclear_is_a_dead_letter_and_a_json_number_is_clear(mapped):
    with pytest.raises(Rejected, match="amount: column 'cents' may be thousands or decimals") as error:
        mapped(foreign(cents="4.250"))
    assert error.value.reason is Reason.WRONG_TYPE and "4.250" not in error.value.detail
    assert mapped(foreign(cents=4250.000)).transaction.amount == 42.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rows: {only: {op: [c]}}", "rows: each record of a topic is stored"),
        (
            "{column: cents, sign: negative}",
            "sign: negative: a topic's records cannot be left out, write absolute",
        ),
        ("{debit: cents, credit: other}", "rows with a credit cannot be left out"),
        ('{text: "{file}"}', "a topic has no files"),
        (
            "{column: fraud, fraud: [x], honest: [y], known_at: at}",
            "label in a topic's event is known from the start",
        ),
    ],
)
def test_what_would_leave_records_out_is_refused(tmp_path, change, message):
    text = MAPPING
    if change.startswith("rows"):
        text += change
    elif "cents" in change:
        text = text.replace("{column: cents, factor: 0.01}", change)
    elif "file" in change:
        text = text.replace('{text: "{first} {last}"}', change)
    else:
        text = text.partition("label:")[0] + f"label: {change}"
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    with pytest.raises(MappingError, match=message):
        transaction_decoder(Settings(_env_file=None, home=tmp_path, mapping=path))


@pytest.mark.services
def test_the_streams_apply_it(clean_postgres, tmp_path):
    from include.streams import ingest, store
    from include.streams.store import Range, Record, Writer

    path = tmp_path / "mapping.yaml"
    path.write_text(MAPPING)
    settings = clean_postgres.model_copy(update={"mapping": path})
    values = [foreign(fraud=True), foreign(id="t2", cents="many"), foreign(id="t3")]
    records = [Record(offset, datetime.now(UTC), b"", value) for offset, value in enumerate(values)]
    span = Range.of("transaction_stream", "t", "id", 0, records)
    with store.connect(settings) as connection:
        summary = store.write(connection, Writer(settings, span.stream, 0), span, ingest.transactions)
        stored = read(connection, "select transaction_id, amount::text from shop.transactions order by 1")
    assert (summary.stored, summary.dead_letters) == (2, 1)
    assert stored == [("t1", "42.50"), ("t3", "42.50")]
