"""docs/architecture.md shows the real records of one transaction: both streams process it, the page is compared.

`pytest tests/test_architecture.py --rewrite-docs` puts the present records into the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from msgspec import structs
from psycopg.rows import dict_row
from pyspark.sql import SparkSession

from include.broker import kafka
from include.events.label import Label, encode_label
from include.events.transaction import CATEGORIES, NUMBERS, Transaction, decode, encode
from include.features.behaviour import FEATURES
from include.features.entities import FIELDS as ENTITIES
from include.settings import PROJECT_ROOT, Settings
from tests.builders import transaction
from tests.payments import keep_champion
from tests.stream_runs import Waiting, books, both_streams, own
from tests.waiting import PATIENCE

PAGE = PROJECT_ROOT / "docs" / "architecture.md"
RECORD = re.compile(r"(<!-- record: ([a-z_]+) -->\n```json\n)(.*?)(\n```)", re.DOTALL)
PAYMENT_TIME = datetime(2026, 11, 20, 3, 14, 7, tzinfo=UTC)
DIFFERENT_EACH_RUN = {
    "broker_time",
    "stored_at",
    "scored_at",
    "created_at",
    "topic",
    "topic_id",
    "committed_at",
}
SHOWN_FEATURES = (
    "amount_ratio", "amount_z", "new_device", "new_country", "foreign", "country_change", "speed", "hour_surprise",
    "merchant_frauds_30d", "history",
)  # fmt: skip

pytestmark = [pytest.mark.services, pytest.mark.timeout(1_200)]


def payment(**fields: object) -> Transaction:
    """A transaction without a name and an e-mail address, of a shop without fields of its own."""
    absent = dict.fromkeys(("first_name", "last_name", "full_name", "email", *NUMBERS, *CATEGORIES))
    return transaction(**absent, **fields)


def ordinary_payments() -> list[Transaction]:
    """Forty days of a customer who pays at a grocer's around noon with one phone."""
    return [
        payment(
            transaction_id=f"history-{day:02d}",
            user_id="user-0007",
            timestamp=PAYMENT_TIME - timedelta(days=40 - day, hours=-9),
            amount=20.0 + day % 7,
            device="Pixel 9",
            location="Porto, Portugal",
            transaction_location="Porto, Portugal",
            merchant_id="merchant-0001",
            merchant_category="groceries",
            currency="EUR",
            latitude=41.15,
            longitude=-8.61,
        )
        for day in range(40)
    ]


def the_payment() -> Transaction:
    """At night, abroad, with another phone, forty times the usual amount."""
    return payment(
        transaction_id="9d8f0c1e",
        user_id="user-0007",
        timestamp=PAYMENT_TIME,
        amount=899.0,
        device="Galaxy S25",
        location="Porto, Portugal",
        transaction_location="Lagos, Nigeria",
        merchant_id="merchant-0443",
        merchant_category="electronics",
        currency="EUR",
        latitude=6.52,
        longitude=3.38,
    )


def the_label() -> Label:
    """Four days later the customer disputes the payment."""
    disputed = the_payment()
    known_at = disputed.timestamp + timedelta(days=4)
    return Label(
        disputed.transaction_id,
        disputed.timestamp,
        True,
        known_at,
        None,
        *(getattr(disputed, name) for name in ENTITIES.values()),
    )


@pytest.fixture
def shop(clean_postgres: Settings, kafka: Settings, tmp_path: Path) -> Settings:
    """A topic of one partition, and a champion that a stream takes while MLflow is away."""
    settings = own(clean_postgres, tmp_path, kafka_partitions=1, mlflow_tracking_uri="http://127.0.0.1:9")
    keep_champion(settings)
    return settings


@pytest.fixture
def records(shop: Settings, session: SparkSession) -> Iterator[dict[str, dict[str, object]]]:
    """The records of the payment at each stage, by the name that the page gives them."""
    with both_streams(shop, session) as until:
        send(shop, shop.transactions_topic, [encode(earlier) for earlier in ordinary_payments()])
        send(shop, shop.transactions_topic, [encode(the_payment())])
        yield collect(until, shop)


def send(settings: Settings, topic: str, values: list[bytes]) -> None:
    producer = Producer(kafka.writer_config(settings))
    for value in values:
        producer.produce(topic, value, key=b"user-0007")
    assert producer.flush(PATIENCE) == 0


def last_record(settings: Settings, topic: str) -> dict[str, object]:
    consumer = Consumer(kafka.client_config(settings, group_id="architecture", enable_auto_commit=False))
    try:
        end = kafka.end_offsets(settings, topic)[0]
        consumer.assign([TopicPartition(topic, 0, end - 1)])
        message = consumer.poll(PATIENCE)
        assert message is not None and message.error() is None
        return {
            "key": message.key().decode(),
            "partition": message.partition(),
            "offset": message.offset(),
            "value": json.loads(message.value()),
        }
    finally:
        consumer.close()


def collect(until: Waiting, settings: Settings) -> dict[str, dict[str, object]]:
    """Waits until both streams have written the payment, sends its label, and reads what there is of it."""
    payments = len(ordinary_payments()) + 1
    until(lambda: books(settings, "transaction_stream")[1] == payments == books(settings, "fraud_stream")[1])
    in_topic = last_record(settings, settings.transactions_topic)
    send(settings, settings.labels_topic, [encode_label(the_label())])
    until(lambda: row(settings, "select from shop.fraud_transactions where transaction_id = %s") is not None)
    decoded = decode(
        json.dumps(in_topic["value"]).encode(),
        datetime.now(UTC),
        max_bytes=settings.max_event_bytes,
        future_tolerance=timedelta(seconds=settings.future_tolerance_seconds),
    )
    score = row(settings, "select * from shop.fraud_scores where transaction_id = %s")
    vector = dict(zip(FEATURES, score.pop("features"), strict=True))
    ledger = "select * from shop.stream_offsets where stream = 'fraud_stream' and topic = %s"
    return {
        "in_the_topic": in_topic,
        "decoded": {
            name: value for name, value in structs.asdict(decoded.transaction).items() if value is not None
        },
        "stored": row(settings, "select * from shop.transactions where transaction_id = %s"),
        "features": {name: round(value, 3) for name, value in vector.items() if name in SHOWN_FEATURES},
        "scored": score,
        "ledger": row(settings, ledger, settings.transactions_topic),
        "alert": row(settings, "select * from shop.fraud_alerts where transaction_id = %s"),
        "label": row(settings, "select * from shop.fraud_transactions where transaction_id = %s"),
    }


def row(settings: Settings, query: str, key: str = "9d8f0c1e") -> dict[str, object] | None:
    """The row of a query, without what differs in each run and without empty columns."""
    with psycopg.connect(settings.conninfo("owner"), row_factory=dict_row) as connection:
        columns = connection.execute(query, (key,)).fetchone()
    if columns is None:
        return None
    return {
        name: value for name, value in columns.items() if value is not None and name not in DIFFERENT_EACH_RUN
    }


def shown(record: dict[str, object]) -> str:
    """A record as the page shows it: times as text, numbers with at most four decimals."""
    return json.dumps(plain(record), indent=1, ensure_ascii=False)


def plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return round(float(value), 4) if isinstance(value, float | Decimal) else value


def test_the_page_shows_the_records_of_one_payment_as_they_are(records, request):
    page = PAGE.read_text()
    if request.config.getoption("--rewrite-docs"):
        page = RECORD.sub(lambda match: match[1] + shown(records[match[2]]) + match[4], page)
        PAGE.write_text(page)
    on_the_page = {name: text for _, name, text, _ in RECORD.findall(page)}
    assert on_the_page == {name: shown(record) for name, record in records.items()}
