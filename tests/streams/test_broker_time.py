"""In topics of others a record's time is whatever its sender wrote: no value of it stops a stream."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from include.broker.kafka import client_config
from include.settings import Settings
from include.streams import ingest
from include.streams.runner import StreamDefinition
from tests.builders import event_bytes, label_bytes
from tests.stream_runs import books, own, query, running, use_producer_time
from tests.waiting import PATIENCE

NAME = "transaction_stream"
LAST_OF_PYTHON, LAST_OF_SPARK = 253_402_300_799_999, 9_223_372_036_854_775  # milliseconds
TIMES = (1, 10**14, LAST_OF_PYTHON, LAST_OF_PYTHON + 1, 10**15, LAST_OF_SPARK)

pytestmark = pytest.mark.services


def send(shop: Settings, topic: str, values: list[bytes]) -> None:
    producer, failures = Producer(client_config(shop)), []
    for value, at in zip(values, TIMES, strict=True):
        note = {"on_delivery": lambda error, _: error and failures.append(error)}
        producer.produce(topic, value, partition=0, timestamp=at, **note)
    assert producer.flush(PATIENCE) == 0 and failures == []


def test_no_time_of_a_record_stops_a_stream(clean_postgres, kafka, tmp_path, session):
    shop = own(clean_postgres, tmp_path)
    for topic in (shop.transactions_topic, shop.labels_topic):
        use_producer_time(shop, topic)
    send(shop, shop.transactions_topic, [event_bytes() for _ in TIMES])
    send(shop, shop.labels_topic, [label_bytes() for _ in TIMES])
    handlers = {shop.transactions_topic: ingest.transactions, shop.labels_topic: ingest.labels}
    with running(shop, StreamDefinition(NAME, tuple(handlers), lambda spark: handlers), session) as active:
        active.until(lambda: books(shop, NAME)[0] == 2 * len(TIMES))
    years = "select extract(year from broker_time)::int from shop.transactions order by 1"
    assert query(shop, years) == [(5138,), (9000,), (9000,), (9000,), (9000,)]
    refused = [("in_the_future", shop.labels_topic), ("in_the_future", shop.transactions_topic)]
    assert query(shop, "select reason, topic from shop.dead_letters order by 1, 2") == refused
