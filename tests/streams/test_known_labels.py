"""Labels as features: never before they are known, whatever the order of partitions, batches and speed."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from include.features import behaviour, known_frauds
from include.features.behaviour import FEATURES
from include.features.definitions import EXTRA_FEATURES, KNOWN_FRAUD_FEATURES, LIFT_FEATURES
from include.features.entities import KINDS, Coded, coded
from include.features.geography import country_of
from include.features.known_frauds import WINDOWS
from include.settings import Settings
from include.sql import statement
from include.streams import known_labels, scoring, store
from include.streams.store import Range, Record, Writer
from include.training import feature_differences, recompute
from tests.builders import event_bytes, label_bytes, transaction
from tests.payments import detector
from tests.stream_runs import query

STREAM = "fraud_stream"
START = datetime(2026, 10, 1, tzinfo=UTC)
BROKER_TIME = datetime(2027, 1, 1, tzinfo=UTC)
FRAUDS = FEATURES.index("merchant_frauds_30d")

pytestmark = pytest.mark.services


def at(days: float) -> datetime:
    return START + timedelta(days=days)


def micros(days: float) -> np.ndarray:
    return np.array([int(at(days).timestamp()) * 1_000_000])


class Shop:
    """The scoring stream's writes, made without Spark."""

    def __init__(self, settings: Settings, connection: psycopg.Connection):
        self.settings, self.connection = settings, connection
        self.ends: dict[tuple[str, int], int] = {}
        forest, threshold = detector()
        scorer = forest.scorer(threshold=threshold, version=1, feature_set=behaviour.FEATURE_SET)
        self.handlers = {
            settings.labels_topic: known_labels.labels,
            settings.transactions_topic: partial(scoring.scores, scorer),
        }

    def write(self, topic: str, values: list[bytes], partition: int = 0) -> store.Summary | None:
        if not values:
            return None
        first = self.ends.get((topic, partition), 0)
        self.ends[topic, partition] = first + len(values)
        records = [Record(first + i, BROKER_TIME, None, value) for i, value in enumerate(values)]
        span = Range.of(STREAM, topic, "id-1", partition, records)
        return store.write(self.connection, Writer(self.settings, STREAM, 0), span, self.handlers[topic])

    def labels(self, *values: bytes, partition: int = 0) -> store.Summary:
        return self.write(self.settings.labels_topic, list(values), partition)

    def pay(self, days: float, merchant_id: str | None = "m", partition: int = 0, **fields) -> str:
        """One payment; its id."""
        fields = {"timestamp": at(days), "merchant_id": merchant_id, **fields}
        fields.setdefault(
            "transaction_id",
            f"t-{partition}-{self.ends.get((self.settings.transactions_topic, partition), 0)}",
        )
        self.write(self.settings.transactions_topic, [event_bytes(**fields)], partition)
        return fields["transaction_id"]

    def known(self, days: float, entity: str = "m", kind: str = "merchant", window: int = 30) -> int:
        """Frauds that a payment at that time would know of an entity."""
        named = {kind: Coded([entity], np.zeros(1, int))}
        counts = known_frauds.counts(self.connection, named, micros(days))
        assert counts.sum() == counts[0, KINDS.index(kind)].sum()
        return int(counts[0, KINDS.index(kind), WINDOWS.index(window)])

    def seen(self, transaction_id: str) -> int:
        """Frauds that a scored payment knew."""
        return round(float(np.expm1(as_logged(self)[transaction_id][FRAUDS])))


@pytest.fixture
def shop(clean_postgres: Settings):
    with store.connect(clean_postgres) as connection:
        yield Shop(clean_postgres, connection)


def fraud(known: float, paid: float = -1.0, **fields) -> bytes:
    """A label of fraud at merchant m."""
    return label_bytes(**{"timestamp": at(paid), "known_at": at(known), "merchant_id": "m", **fields})


def test_frauds_of_a_shops_own_categories_are_known_and_recomputed(shop):
    """Of the label, or of the stored transaction where it does not say."""
    shop.labels(fraud(0.5, category_1="bad.example", category_3=None))
    assert shop.known(1, "bad.example", "category_1") == 1
    assert shop.known(1, "bad.example", "category_2") == 0
    paid = [
        shop.pay(days, category_1=value) for days in (0.1, 1.1) for value in ("bad.example", "post.example")
    ]
    lift = FEATURES.index("category_1_fraud_lift_7d")
    logged = as_logged(shop)
    assert [logged[one][lift] > 0 for one in paid] == [False, False, True, False]
    assert logged[paid[3]][lift] < 0


def test_a_label_counts_from_the_day_after_it_was_known_for_thirty_days(shop):
    shop.labels(fraud(0.0), fraud(0.999), fraud(1.0), fraud(5.5))
    assert [shop.known(day) for day in (0, 0.9999, 1, 1.9999, 2, 6, 30.9999, 31, 32, 35.9999, 36)] == (
        [0, 0, 2, 2, 3, 4, 4, 2, 1, 1, 0]
    )  # fmt: skip
    assert shop.known(10, "another") == 0
    several = known_frauds.counts(shop.connection, {"merchant": coded([None, "m"])}, np.repeat(micros(6), 2))
    assert several[:, KINDS.index("merchant")].tolist() == [[0, 0, 0], [1, 4, 4]]
    assert [shop.known(day, window=1) for day in (0.9999, 1, 1.9999, 2, 3, 6, 7)] == [0, 2, 2, 1, 0, 1, 0]
    assert [shop.known(day, window=7) for day in (1, 2, 6, 7.9999, 8, 9, 12.9999, 13)] == [
        2,
        3,
        4,
        4,
        2,
        1,
        1,
        0,
    ]


def test_a_fraud_counts_for_each_kind_of_entity_and_for_the_shop(shop):
    shop.labels(
        fraud(0.5, user_id="u", device="d", merchant_category="c", transaction_location="Nairobi, Kenya")
    )
    shop.labels(fraud(0.6, user_id="v", device="d", merchant_category="c", transaction_location="Japan"))
    asked = {"shop": "", "customer": "u", "merchant": "m", "device": "d", "category": "c", "country": "kenya"}
    assert [shop.known(1, entity, kind) for kind, entity in asked.items()] == [2, 1, 2, 2, 2, 1]
    assert shop.known(1, "u", "merchant") == shop.known(1, "m", "device") == shop.known(0.7, "", "shop") == 0
    paid = shop.pay(1.5, user_id="v", device="d", merchant_category="x", transaction_location="Kenya")
    vector = as_logged(shop)[paid]
    seen = {
        name: np.expm1(value)
        for name, value in zip(FEATURES, vector, strict=True)
        if name.endswith("_frauds_1d")
    }
    assert seen == pytest.approx(
        {"customer_frauds_1d": 1, "merchant_frauds_1d": 2, "device_frauds_1d": 2, "category_frauds_1d": 0,
         "country_frauds_1d": 1}, abs=1e-5
    )  # fmt: skip


def test_without_any_known_fraud_one_small_question_is_asked(shop):
    many = coded([f"m{i}" for i in range(1000)])
    cursor = MagicMock(wraps=shop.connection.cursor(binary=True))
    connection = SimpleNamespace(cursor=lambda binary: cursor)
    assert not known_frauds.counts(connection, {"merchant": many}, np.repeat(micros(6), 1000)).any()
    ((_, asked),) = [call.args for call in cursor.execute.call_args_list]
    assert asked["entities"] == [""]


def test_payments_of_a_day_know_what_was_known_before_the_day_only(shop):
    shop.labels(fraud(0.5))
    assert [shop.seen(shop.pay(day)) for day in (0.4, 0.6, 0.9999, 1.0, 2.0)] == [0, 0, 0, 1, 1]
    assert shop.seen(shop.pay(3, None)) == 0


def test_a_label_that_is_late_counts_from_the_day_after_the_newest_payment(shop):
    shop.pay(4.5, partition=1)
    shop.labels(fraud(0.5))
    assert [shop.known(day) for day in (1, 4, 4.9, 5, 30.9, 31)] == [0, 0, 0, 1, 1, 0]
    assert shop.seen(shop.pay(4.6)) == 0 and shop.seen(shop.pay(5.0)) == 1
    assert shop.seen(shop.pay(4.7)) == 0  # a late payment of a day that is over
    rows = shop.connection.execute("select counts_from from shop.known_labels").fetchall()
    assert rows == [(at(5).date(),)]


def test_a_correction_takes_the_fraud_back_from_the_day_after_it_was_known(shop):
    shop.labels(fraud(0.5, transaction_id="a"), fraud(3.5, transaction_id="a", is_fraud=False))
    shop.labels(fraud(6.5, transaction_id="a"))
    assert [shop.known(day) for day in (0, 1, 3.9, 4, 6.9, 7, 36.9, 37)] == [0, 1, 1, 0, 0, 1, 1, 0]


def test_a_correction_that_is_late_changes_no_day_that_has_begun(shop):
    shop.labels(fraud(0.5, transaction_id="a"))
    shop.pay(8.0)
    shop.labels(fraud(3.5, transaction_id="a", is_fraud=False))
    assert [shop.known(day) for day in (1, 4, 8.9, 9)] == [1, 1, 1, 0]


def test_labels_of_a_transaction_may_be_read_in_any_order(shop):
    shop.labels(fraud(5.5, transaction_id="a", is_fraud=False), partition=1)
    shop.labels(fraud(0.5, transaction_id="a"))
    shop.labels(fraud(8.5, transaction_id="a"), fraud(2.5, transaction_id="a", is_fraud=False))
    assert [shop.known(day) for day in (0, 1, 2, 3, 6, 8, 9)] == [0, 1, 1, 0, 0, 0, 1]


def test_a_label_that_is_read_when_a_later_one_counts_changes_nothing(shop):
    shop.labels(fraud(5.5, transaction_id="a", is_fraud=False))
    shop.pay(6.0)
    shop.labels(fraud(0.5, transaction_id="a"))
    assert [shop.known(day) for day in (1, 4, 6, 7, 8)] == [0, 0, 0, 0, 0]


def test_a_label_known_at_its_payment_is_not_knowledge(shop):
    shop.labels(fraud(0.5, paid=0.5), fraud(0.25, paid=0.5))
    assert shop.known(3) == 0
    assert shop.seen(shop.pay(0.5, is_fraud=True)) == shop.seen(shop.pay(3.0, is_fraud=True)) == 0


def test_again_and_against_itself_is_counted_and_counts_once(shop):
    once = fraud(0.5, transaction_id="a")
    assert shop.labels(once, once)[5:8] == (1, 0, 1)
    against = fraud(0.5, transaction_id="a", is_fraud=False)
    assert shop.labels(once, against, b"poison")[5:8] == (0, 2, 1)
    assert shop.known(1) == 1
    assert query(shop.settings, "select count(*) from shop.dead_letters") == [(0,)]


def test_without_a_merchant_it_is_that_of_the_stored_transaction(shop):
    insert = (
        "insert into shop.transactions (transaction_id, user_id, timestamp, amount, merchant_id, topic, partition, "
        "\"offset\", broker_time) values ('a', 'u', %s, 1, 'm', 't', 0, 0, now())"
    )
    with psycopg.connect(shop.settings.conninfo("owner"), autocommit=True) as owner:
        owner.execute(insert, (at(-1),))
    unknown = fraud(0.5, transaction_id="b", merchant_id=None)
    shop.labels(fraud(0.5, transaction_id="a", merchant_id=None), unknown)
    assert shop.known(1) == 1
    shop.labels(fraud(2.5, transaction_id="a", merchant_id=None, is_fraud=False))
    assert shop.known(3) == 0


def merchants(known: known_frauds.KnownFrauds, names: list[str], time: np.ndarray) -> list[int]:
    """The frauds that are known of merchants in 30 days."""
    return known.counts({"merchant": coded(names)}, time)[:, KINDS.index("merchant"), -1].tolist()


def test_two_events_with_one_id_have_labels_and_merchants_of_their_own(shop):
    insert = (
        "insert into shop.transactions (transaction_id, user_id, timestamp, amount, merchant_id, topic, partition, "
        "\"offset\", broker_time) values ('a', 'u', %s, 1, 'stored', 't', 0, 0, now())"
    )
    with psycopg.connect(shop.settings.conninfo("owner"), autocommit=True) as owner:
        owner.execute(insert, (at(-1),))
    of_the_other = {"transaction_id": "a", "paid": -2.0}
    unnamed = {"merchant_id": None, "is_fraud": True}
    shop.labels(fraud(0.5, transaction_id="a", **unnamed), fraud(0.5, **of_the_other, **unnamed))
    assert (shop.known(1, "stored"), shop.known(1)) == (1, 0)  # nobody knows the merchant of the refused one
    shop.labels(fraud(0.6, **of_the_other), fraud(2.5, **of_the_other, is_fraud=False))
    assert [(shop.known(day, "stored"), shop.known(day)) for day in (1, 3)] == [(1, 1), (1, 0)]
    known = known_frauds.as_read(shop.connection)
    assert [merchants(known, [name], micros(3)) for name in ("stored", "m")] == [[1], [0]]
    with psycopg.connect(shop.settings.conninfo("owner"), autocommit=True) as owner:
        owner.execute(
            "insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at)"
            " values ('a', %s, true, %s), ('a', %s, false, %s)",
            (at(-1), at(0.5), at(-2), at(2.5)),
        )
        lived = known_frauds.in_time(owner, at(-5), at(9))
    assert merchants(lived, ["stored"] * 2, np.concatenate([micros(1), micros(4)])) == [1, 1]


def test_a_label_of_an_event_that_is_not_stored_counts_for_what_it_names_live_and_in_a_recomputation(shop):
    shop.labels(
        fraud(0.5, transaction_id="refused", transaction_location="Straße, STRASSE"),
        fraud(0.6, transaction_id="unnamed", merchant_id=None, user_id=None),
        fraud(0.7, transaction_id="corrected"),
        fraud(2.5, transaction_id="corrected", is_fraud=False),
    )
    with psycopg.connect(shop.settings.conninfo("owner"), autocommit=True) as owner:
        owner.execute(
            "insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at)"
            " select transaction_id, timestamp, is_fraud, known_at from shop.known_labels"
        )
    with psycopg.connect(shop.settings.conninfo("trainer")) as trainer:
        known = known_frauds.as_read(trainer), known_frauds.in_time(trainer, at(-5), at(9))
    for frauds in known:
        assert merchants(frauds, ["m"] * 2, np.concatenate([micros(1), micros(3)])) == [2, 1]
        for kind, entity, number in (("country", "strasse", 1), ("shop", "", 2)):
            counts = frauds.counts({kind: coded_as(entity)}, micros(3))
            assert counts[0, KINDS.index(kind), -1] == number, kind
    assert [shop.known(day) for day in (1, 3)] == [2, 1]


def coded_as(entity: str) -> Coded:
    return Coded([entity], np.zeros(1, int))


def test_countries_of_old_labels_are_folded_as_those_of_new_ones(shop):
    """The migration, on labels as the one that made the column left them."""
    letters = "abcXYZßẞİıΣςσŁÅ éÉ,\u00a0\t'-ﬁÇŞ"
    locations = ["Nairobi, Kenya", "Straße", "İzmir, TÜRKİYE", "\u00a0Côte d’Ivoire\t", "ΣΑΣ", "a,b, ,", ","]
    locations += ["".join(random.Random(i).choices(letters, k=6)) for i in range(300)]
    with psycopg.connect(shop.settings.conninfo("owner"), autocommit=True) as owner:
        for number, location in enumerate(locations):
            owner.execute(
                "insert into shop.transactions (transaction_id, user_id, timestamp, amount, transaction_location,"
                " topic, partition, \"offset\", broker_time) values (%s, 'u', %s, 1, %s, 't', 0, %s, now())",
                (f"p{number}", at(-1), location, number),
            )
        owner.execute(
            "insert into shop.known_labels (transaction_id, timestamp, known_at, is_fraud, counts_from, country)"
            " select transaction_id, timestamp, %s, true, %s,"
            " nullif(lower(btrim(regexp_replace(transaction_location, '^.*,', ''))), '') from shop.transactions",
            (at(0.5), at(1).date()),
        )
        owner.execute("insert into shop.known_frauds values ('country', 'straße', %s, %s, 1)", (at(1), at(1)))
        owner.execute(statement("migrations/0015.countries").replace("%", "%%"), ())
        owner.execute("drop function pg_temp.last_part")
    countries = dict(query(shop.settings, "select transaction_id, country from shop.known_labels"))
    assert [countries[f"p{number}"] or "" for number in range(len(locations))] == list(
        map(country_of, locations)
    )
    sums = query(shop.settings, "select entity, frauds from shop.known_frauds where kind = 'country'")
    assert dict(sums) == Counter(country for country in map(country_of, locations) if country)


def test_a_second_write_of_labels_changes_nothing(shop):
    shop.labels(fraud(0.5), fraud(0.6))
    shop.ends.clear()
    assert shop.labels(fraud(0.5), fraud(0.6)).skipped == 2 and shop.known(1) == 2


# A small world: labels and payments, each at an event time; labels may be published late or early.

moments = st.integers(0, 20 * 24).map(lambda hour: hour / 24)
published = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), moments, st.sampled_from("mn"), st.integers(0, 1)),
        st.tuples(st.just("label"), moments, st.sampled_from("mn"), st.sampled_from("abcd"), st.booleans()),
    ),
    min_size=2,
    max_size=14,
    unique_by=lambda event: event[:4],
)  # fmt: skip


def empty(shop: Shop) -> None:
    with psycopg.connect(shop.settings.conninfo("owner"), autocommit=True) as owner:
        owner.execute(
            "truncate shop.stream_offsets, shop.scored_ids, shop.fraud_scores, shop.fraud_alerts, shop.user_state, "
            "shop.merchant_state, shop.day_state, shop.known_labels, shop.known_frauds"
        )
    shop.ends.clear()


def as_logged(shop: Shop) -> dict[str, list[float]]:
    return dict(query(shop.settings, "select transaction_id, features from shop.fraud_scores"))


def payment(number: int, event: tuple) -> tuple[bytes, int]:
    _, when, merchant, partition = event
    return event_bytes(**paid(number, when, merchant, partition)), partition


def paid(number: int, when: float, merchant: str, partition: int) -> dict[str, object]:
    """The fields of a payment."""
    return {
        "transaction_id": f"p{number}", "timestamp": at(when), "merchant_id": merchant,
        "user_id": f"user-{partition}", "merchant_category": f"{merchant}{partition}",
        "transaction_location": ("Kenya", "Japan", None)[number % 3],
    }  # fmt: skip


def label_of(event: tuple) -> bytes:
    _, when, merchant, name, is_fraud = event
    number = "abcd".index(name)
    fields = {
        "user_id": f"user-{number % 2}", "merchant_category": f"{merchant}{number % 2}",
        "transaction_location": ("Nairobi, Kenya", "Japan")[number // 2],
    }  # fmt: skip
    if int(when * 8) % 2:
        fields["source"] = "analyst"
    return fraud(when, transaction_id=f"{name}{merchant}", merchant_id=merchant, is_fraud=is_fraud, **fields)


@pytest.fixture(scope="module")
def kept(postgres: Settings):
    with store.connect(postgres) as connection:
        yield Shop(postgres, connection)


@examples(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=published)
def test_order_of_partitions_batches_and_speed_do_not_matter(kept, events):
    """Labels in time: day by day as it happened, or all at once in any order with either partition first."""
    shop, logged_each_way = kept, []
    in_time = sorted(
        enumerate(events), key=lambda event: (event[1][1], event[1][0])
    )  # at one time the label first
    topic = shop.settings.transactions_topic
    for speed in ("lived through", "at once", "the other partition first"):
        empty(shop)
        waiting: dict[int, list[bytes]] = {0: [], 1: []}
        reported = [label_of(event) for _, event in in_time if event[0] == "label"]
        if speed == "at once":
            shop.labels(*reported)
        elif speed == "the other partition first":
            for number, value in enumerate(reversed(reported)):
                shop.labels(value, partition=number % 2)
        for number, event in in_time:
            if event[0] == "label":
                if speed == "lived through":
                    shop.labels(label_of(event))
            else:
                value, partition = payment(number, event)
                waiting[partition].append(value)
                if speed == "lived through":
                    shop.write(topic, [value], partition)
        if speed != "lived through":
            for partition in (0, 1) if speed == "at once" else (1, 0):
                shop.write(topic, waiting[partition], partition)
        logged_each_way.append(as_logged(shop))
    assert logged_each_way[0] == logged_each_way[1] == logged_each_way[2]


@examples(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=published)
def test_a_recomputation_knows_what_the_stream_knew_and_nothing_before_its_time(kept, events):
    """Labels and payments in any order: late, backdated, corrected, contradicting."""
    shop = kept
    empty(shop)
    rows, partitions = [], []
    for number, event in enumerate(events):
        if event[0] == "label":
            shop.labels(label_of(event))
            continue
        value, partition = payment(number, event)
        shop.write(shop.settings.transactions_topic, [value], partition)
        rows.append(transaction(**paid(number, *event[1:])))
        partitions.append(partition)
    logged = as_logged(shop)
    known = known_frauds.as_read(shop.connection)
    vectors = recompute.recompute(rows, partitions, known)
    feature_differences.require(
        np.reshape([logged[row.transaction_id] for row in rows], vectors.shape), vectors
    )
    for row in rows:
        before = {event[3] + event[2] for event in events if event[0] == "label" and event[2] == row.merchant_id
                  and event[4] and at(event[1]).date() < row.timestamp.date()}  # fmt: skip
        assert np.expm1(logged[row.transaction_id][FRAUDS]) <= len(before) + 1e-4


def test_an_analyst_counts_until_the_bank_speaks_and_no_longer(shop):
    shop.labels(fraud(0.5, transaction_id="t", source="analyst"))
    assert [shop.known(day) for day in (0.9, 1.5)] == [0, 1]
    shop.labels(fraud(2.5, transaction_id="t", is_fraud=False))
    assert [shop.known(day) for day in (2.9, 3.5)] == [1, 0]
    shop.labels(*(fraud(day, transaction_id="t", source="analyst") for day in (3.5, 4.5)))
    assert [shop.known(day) for day in (4.5, 9.5)] == [0, 0]


def test_the_bank_outranks_an_analyst_whose_label_was_read_before(shop):
    shop.labels(fraud(4.5, transaction_id="t", source="analyst"), fraud(1.5, transaction_id="t"))
    assert [shop.known(day) for day in (1.9, 2.5, 5.5, 9.5)] == [0, 1, 1, 1]
    shop.labels(
        fraud(5.5, transaction_id="u", source="analyst"), fraud(2.5, transaction_id="u", is_fraud=False)
    )
    assert [shop.known(day) for day in (5.9, 9.5)] == [1, 1]


def test_parity_finds_a_label_that_was_counted_too_early(shop):
    shop.pay(0.5)
    shop.labels(fraud(0.25))
    shop.pay(1.5, transaction_id="later")
    with psycopg.connect(shop.settings.conninfo("owner"), autocommit=True) as owner:
        owner.execute("update shop.known_labels set counts_from = counts_from + 3")
    rows = [transaction(timestamp=at(day), merchant_id="m") for day in (0.5, 1.5)]
    logged = np.array([as_logged(shop)[name] for name in ("t-0-0", "later")])
    differences = feature_differences.compare(
        logged, recompute.recompute(rows, [0, 0], known_frauds.as_read(shop.connection))
    )
    differing = {difference.feature for difference in differences}
    lifts = {name for name in EXTRA_FEATURES if "_fraud_lift_" in name} | {*LIFT_FEATURES}
    assert set(KNOWN_FRAUD_FEATURES) <= differing <= {*KNOWN_FRAUD_FEATURES, *lifts}
