"""What decode accepts, what it rejects and why; docs/events.md tells people the same."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from include.events import rows
from include.events.transaction import NUMBERS, Decoded, Reason, Rejected, Transaction, decode, encode
from include.events.transaction import _fingerprint as fingerprint_of
from tests.bad_input import (
    ACCEPTED,
    DEEP,
    DIGITS,
    LONGEST,
    REJECTED,
    SAME_ID,
    STORED,
    TEXTS,
    TOLERANCE,
    UNKNOWN_FIELDS,
    VALID,
    with_raw,
)
from tests.builders import ABSENT, NOW, event, event_bytes, transaction
from tests.fuzz_messages import messages

MAX_BYTES = 65_536


def read(value: bytes | None, broker_time: datetime = NOW) -> Decoded:
    return decode(value, broker_time, max_bytes=MAX_BYTES, future_tolerance=TOLERANCE)


def rejection(value: bytes | None, broker_time: datetime = NOW) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read(value, broker_time)
    return caught.value


@pytest.mark.parametrize(("value", "reason"), REJECTED.values(), ids=REJECTED)
def test_bad_input_is_rejected_with_its_reason(value, reason):
    assert rejection(value).reason is reason


def test_100000_levels_are_too_deep_whatever_the_limit_of_bytes():
    for value in (DEEP, with_raw("extra", DEEP), with_raw("amount", DEEP)):
        with pytest.raises(Rejected) as caught:
            decode(value, NOW, max_bytes=10_000_000, future_tolerance=TOLERANCE)
        assert caught.value.reason in (Reason.TOO_DEEP, Reason.NOT_AN_OBJECT)


def test_every_reason_is_reached_by_some_input():
    stores_own = {Reason.ID_CONFLICT}  # known only where the earlier events are: in the stream
    assert {reason for _, reason in REJECTED.values()} == set(Reason) - stores_own


def test_details_name_the_field_and_never_show_its_value():
    for name, (value, _) in REJECTED.items():
        detail = rejection(value).detail
        assert 0 < len(detail) < 200, name
        assert detail.isprintable(), name
        for secret in ("Ada", "Byron", "ada.byron", "transaction-0", "user-0001", "12.345"):
            assert secret not in detail, name
    assert "amount" in rejection(event_bytes(amount=-1)).detail
    assert "latitude" in rejection(event_bytes(latitude=91)).detail


def test_a_rejection_survives_the_way_between_processes():
    error = rejection(event_bytes(amount=-1))
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.reason, copy.detail, str(copy)) == (error.reason, error.detail, str(error))


def test_a_whole_event_is_read():
    content = event(is_fraud=True)
    decoded = read(json.dumps(content).encode())
    assert msgspec.structs.asdict(decoded.transaction) == {
        **{name: value for name, value in content.items() if name != "is_fraud"},
        "timestamp": NOW,
    }
    assert decoded.is_fraud is True
    assert decoded.unknown_fields == 0


@pytest.mark.parametrize("absent", [ABSENT, None], ids=["absent", "null"])
def test_optional_fields_may_be_missing(absent):
    required = {"transaction_id", "user_id", "timestamp", "amount"}
    optional = [name for name in Transaction.__struct_fields__ if name not in required]
    decoded = read(event_bytes(is_fraud=absent, **dict.fromkeys(optional, absent)))
    assert [getattr(decoded.transaction, name) for name in optional] == [None] * len(optional)
    assert decoded.is_fraud is None
    for name in optional:
        assert getattr(read(event_bytes(**{name: absent})).transaction, name) is None


@pytest.mark.parametrize(("value", "row"), ACCEPTED.values(), ids=ACCEPTED)
def test_unusual_input_is_accepted_as_it_is(value, row):
    decoded = read(value).transaction
    expected = {name: row[name] for name in row if name != "late"}
    if "amount" in row:
        expected["amount"] = float(row["amount"])
        assert str(decoded.amount)[0] != "-"
    assert {name: getattr(decoded, name) for name in expected} == expected
    assert decoded.timestamp.tzinfo is UTC


def test_unknown_fields_are_those_of_the_table():
    assert sum(read(value).unknown_fields for value, _ in ACCEPTED.values()) == UNKNOWN_FIELDS


def test_the_same_id_with_the_same_content_has_the_same_fingerprint():
    first, *others = [(becomes, read(value).fingerprint) for _, value, becomes in SAME_ID]
    assert first[0] == STORED
    for becomes, fingerprint in others:
        assert (fingerprint == first[1]) == (becomes is not Reason.ID_CONFLICT)


@given(st.integers(0, 999_999_999_999))
def test_every_amount_of_cents_survives_as_a_float(cents):
    digits = f"{cents // 100}.{cents % 100:02d}"
    amount = read(with_raw("amount", digits.encode())).transaction.amount
    assert f"{amount:.2f}" == digits


def test_the_future_is_measured_from_the_brokers_time():
    value = event_bytes(timestamp=NOW + TOLERANCE)
    assert read(value).transaction.timestamp == NOW + TOLERANCE
    assert rejection(value, NOW - timedelta(hours=1)).reason is Reason.IN_THE_FUTURE
    ahead = event_bytes(timestamp=NOW + timedelta(days=400))
    assert read(ahead, NOW + timedelta(days=400)).transaction.timestamp == NOW + timedelta(days=400)


def test_unknown_fields_are_accepted_and_counted():
    assert read(event_bytes(extra=1)).unknown_fields == 1
    nested = {"a": [1, {"b": None}], "amount": "not ours"}
    decoded = read(event_bytes(extra=nested, other="text", ünknown=False))
    assert decoded.unknown_fields == 3
    assert decoded.transaction.amount == 42.5
    assert read(with_raw("extra", b"[" * 31 + DIGITS + b"]" * 31)).unknown_fields == 1


@pytest.mark.parametrize(
    "fields",
    [{}, {"is_fraud": False}, {"device": None}, {"device": ABSENT, "is_fraud": True}, {"latitude": 0}],
)
def test_a_usual_event_is_parsed_only_once(fields, monkeypatch):
    monkeypatch.delattr("include.events.strict_json.unique_keys")
    read(event_bytes(**fields))
    with pytest.raises(NameError):
        read(event_bytes(**fields, extra=1))


SAME = {"transaction_id": "one"}


def test_the_fingerprint_depends_on_content_only():
    content = event(**SAME, is_fraud=False, device='6" é')
    usual = read(json.dumps(content).encode()).fingerprint
    for same in (
        json.dumps(dict(reversed(content.items())), indent=3).encode(),
        json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(),
        json.dumps(content | {"timestamp": "2026-11-20T13:00:00+01:00"}).encode(),
        json.dumps(content | {"extra": 1}).encode(),
        json.dumps(content).replace("42.5", "42.50").encode(),
        json.dumps(content).replace("42.5", "4.25e1").encode(),
    ):
        assert read(same).fingerprint == usual
    absent = read(event_bytes(**SAME, device=ABSENT)).fingerprint
    assert absent == read(event_bytes(**SAME, device=None)).fingerprint


def test_every_field_changes_the_fingerprint():
    other = {
        "transaction_id": "two",
        "timestamp": NOW - timedelta(microseconds=1),
        "amount": 42.51,
        "currency": "USD",
        "latitude": 0,
        "longitude": 0,
        **dict.fromkeys(NUMBERS, 0),
        "is_fraud": False,
    }
    names = (*Transaction.__struct_fields__, "is_fraud")
    variants = [event_bytes(**{**SAME, name: other.get(name, "other")}) for name in names]
    variants += [event_bytes(**{**SAME, name: None}) for name in ("device", "location", "latitude")]
    variants += [event_bytes(**SAME), event_bytes(**SAME, is_fraud=True)]
    prints = [read(value).fingerprint for value in variants]
    assert len(set(prints)) == len(prints)
    assert all(-(2**63) <= fingerprint < 2**63 for fingerprint in prints)
    assert min(prints) < 0 < max(prints)


def test_the_fingerprint_is_the_same_in_every_release():
    """Fingerprints are stored for years: another value would turn honest repetitions into conflicts."""
    assert read(event_bytes(**SAME, is_fraud=True, **ADDED_LATER)).fingerprint == GOLDEN["full"]
    sparse = {"transaction_id": "one", "user_id": "u", "timestamp": "2026-11-20T12:00:00Z", "amount": 1}
    assert read(json.dumps(sparse).encode()).fingerprint == GOLDEN["sparse"]


def test_a_field_that_is_added_later_counts_only_in_the_events_that_have_it():
    values = msgspec.structs.astuple(transaction(**SAME))[:FIRST_RELEASE]
    names = Transaction.__struct_fields__[:FIRST_RELEASE]
    added = {
        extra: fingerprint_of((*names, "channel", "card"), [*values, *extra, True])
        for extra in ((None, None), ("web", None), (None, "web"), ("web", "web"))
    }
    assert added.pop((None, None)) == fingerprint_of(names, [*values, True]) == GOLDEN["full"]
    assert len({GOLDEN["full"], *added.values()}) == 4


FIRST_RELEASE = 16  # fields
ADDED_LATER = dict.fromkeys(Transaction.__struct_fields__[FIRST_RELEASE:])
GOLDEN = {"full": -6_438_623_199_412_309_651, "sparse": 9_118_195_157_704_816_293}


@given(st.booleans() | st.none())
def test_encode_and_decode_are_inverse(is_fraud):
    for original in (transaction(), transaction(device=None, latitude=None), transaction(first_name="Zoë")):
        decoded = read(encode(original, is_fraud))
        assert (decoded.transaction, decoded.is_fraud, decoded.unknown_fields) == (original, is_fraud, 0)


@pytest.mark.services
def test_the_database_stores_what_decode_accepts(clean_postgres):
    values = [event_bytes(first_name=text, device=text) for text in TEXTS.values()]
    values += [
        event_bytes(transaction_id="😀" * 128, **LONGEST, amount=9999999999.99),
        event_bytes(amount=0, timestamp="2000-01-01T00:00:00Z"),
    ]
    stored = [read(value).transaction for value in values]
    names = ", ".join(rows.COLUMNS)
    with psycopg.connect(clean_postgres.conninfo("stream_writer")) as connection:
        connection.cursor().executemany(
            f'insert into shop.transactions ({names}, topic, partition, "offset", broker_time) '
            f"values ({', '.join(['%s'] * len(rows.COLUMNS))}, 't', 0, 0, now())",
            map(rows.to_row, stored),
        )
    with psycopg.connect(clean_postgres.conninfo("owner")) as connection:
        read_back = connection.execute(f"select {names} from shop.transactions").fetchall()
    assert sorted(read_back) == sorted(map(tuple, map(rows.to_row, stored)))


@given(st.binary(max_size=300))
def test_no_bytes_crash_it(value):
    disposition(value)


@given(st.data())
def test_no_change_of_a_valid_event_crashes_it(data):
    value = bytearray(event_bytes(is_fraud=True, device='6" \\', extra={"a": [None]}))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(value)))
        end = data.draw(st.integers(at, min(at + 20, len(value))))
        value[at:end] = data.draw(st.binary(max_size=20))
    disposition(bytes(value))


@example(tokens=['"device"', ":", "{"])
@given(
    st.lists(
        st.sampled_from(
            ['"amount"', '"device"', '"x"', ":", ",", "1", "null", '"a\\"b"', "{", "}", "[", "]", " "]
        )
    )
)
def test_duplicate_keys_are_found_exactly(tokens):
    """The count of quotes must agree with a full parse for any object that begins with a valid event."""
    value = VALID[:-1] + b", " + "".join(tokens).encode() + b"}"
    twice = []

    def pairs(items):
        twice.append(len(dict(items)) < len(items))
        return dict(items)

    try:
        json.loads(value, object_pairs_hook=pairs)
    except ValueError:
        # A wrong type that comes before the end of the JSON is met first.
        assert rejection(value).reason in (Reason.INVALID_JSON, Reason.WRONG_TYPE)
        return
    result = disposition(value)
    assert (
        (result == Reason.DUPLICATE_KEY)
        or not any(twice)
        or result in (Reason.WRONG_TYPE, Reason.MISSING_FIELD)
    )
    assert any(twice) or result != Reason.DUPLICATE_KEY


def disposition(value: bytes | None) -> str:
    try:
        decoded = read(value)
    except Rejected as error:
        assert isinstance(error.reason, Reason)
        assert "\0" not in error.detail
        error.detail.encode()
        return error.reason
    accepted = decoded.transaction
    assert accepted.transaction_id.strip() and accepted.user_id.strip()
    assert 0 <= accepted.amount <= 9999999999.99
    assert accepted.timestamp.tzinfo is UTC and accepted.timestamp <= NOW + TOLERANCE
    for text in msgspec.structs.astuple(accepted):
        if isinstance(text, str):
            assert "\0" not in text
            text.encode()
    return "decoded"


def test_50000_mutated_messages_are_decoded_or_rejected():
    counts = Counter(disposition(value) for _, value in messages(50_000, seed=1))
    assert counts.total() == 50_000
    assert 0.3 < counts["decoded"] / 50_000 < 0.6
    assert set(counts) == {"decoded", *Reason} - {Reason.ID_CONFLICT}


def test_the_flood_is_reproducible():
    first, again, other = (list(messages(2_000, seed)) for seed in (1, 1, 2))
    assert first == again != other
