"""Event time drives everything: a history read at full speed gives what the same history gave while it was lived."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from zlib import crc32

import psycopg
import pytest

from include.features import behaviour
from include.features.definitions import KNOWN_FRAUD_FEATURES
from include.generator.config import Config
from include.generator.world import World
from include.settings import Settings
from include.streams import ingest, known_labels, scoring, store
from include.streams.store import Range, Record, Writer
from include.training.evaluation import evaluate
from tests.conftest import EMPTY
from tests.payments import detector
from tests.stream_runs import query

END = datetime(2026, 3, 22, 12, tzinfo=UTC)
READ = datetime(2026, 6, 1, tzinfo=UTC)  # when the broker got the records, long after they happened
HOUR = 3_600_000_000
PARTITIONS = 2


class Streams:
    """Both streams' writes, made without Spark."""

    def __init__(self, settings: Settings, connection: psycopg.Connection):
        self.settings, self.connection = settings, connection
        self.ends: dict[tuple, int] = defaultdict(int)
        forest, threshold = detector()
        score = forest.scorer(threshold=threshold, version=1, feature_set=behaviour.FEATURE_SET)
        transactions, labels = settings.transactions_topic, settings.labels_topic
        self.handlers = {
            ("fraud_stream", labels): known_labels.labels,
            ("fraud_stream", transactions): partial(scoring.scores, score),
            ("transaction_stream", labels): ingest.labels,
            ("transaction_stream", transactions): ingest.transactions,
        }

    def read(self, stream: str, topic: str, values: list[bytes], partition: int) -> None:
        if values:
            first = self.ends[stream, topic, partition]
            self.ends[stream, topic, partition] += len(values)
            records = [Record(first + i, READ, None, value) for i, value in enumerate(values)]
            span = Range.of(stream, topic, "id", partition, records)
            handler = self.handlers[stream, topic]
            store.write(self.connection, Writer(self.settings, stream, 0), span, handler)

    def read_all(self, published: list[tuple], order: tuple[int, ...]) -> None:
        """Both streams read what is in the topics: labels first, as fraud_stream does, then partition by partition."""
        for stream in ("fraud_stream", "transaction_stream"):
            for topic in (self.settings.labels_topic, self.settings.transactions_topic):
                for partition in order:
                    values = [
                        record[3] for record in published if record[1] == topic and record[2] == partition
                    ]
                    self.read(stream, topic, values, partition)


def world(settings: Settings) -> list[tuple[int, str, int, bytes]]:
    """Time in µs, topic, partition and value of a small world's records, as they are published."""
    config = Config(
        customers=80, merchants=40, history_days=21, history_events=3_000, fraud_rate=0.05, rate=0.01, seed=3
    )
    records_of_all = []
    for batch in World(config).history(END):
        for topic, records in (
            (settings.labels_topic, batch.label_records()),
            (settings.transactions_topic, batch.transactions()),
        ):
            records_of_all += [(at, topic, crc32(key) % PARTITIONS, value) for at, key, value in records]
    return sorted(records_of_all, key=lambda record: record[:2])


def outcome(settings: Settings) -> tuple:
    """Scores with their vectors, alerts with their reasons, and every measure of them."""
    return (
        query(settings, "select transaction_id, score, is_alert, features from shop.fraud_scores order by 1"),
        query(settings, "select transaction_id, score, reasons from shop.fraud_alerts order by 1"),
        evaluate(settings, draws=20),
    )


@pytest.mark.services
def test_full_speed_gives_the_same_features_scores_reasons_and_metrics_as_living_through_it(clean_postgres):
    settings, outcomes = clean_postgres, []
    published = world(settings)
    for speed in ("hour by hour", "at once", "at once, the other partition first"):
        with psycopg.connect(settings.conninfo("owner"), autocommit=True) as owner:
            owner.execute(EMPTY)
        with store.connect(settings) as connection:
            streams = Streams(settings, connection)
            if speed == "hour by hour":
                for _, hour in groupby(published, key=lambda record: record[0] // HOUR):
                    streams.read_all(list(hour), (0, 1))
            else:
                streams.read_all(published, (0, 1) if speed == "at once" else (1, 0))
        outcomes.append(outcome(settings))
    scores, alerts, measured = outcomes[0]
    assert len(scores) > 2_500 and len(alerts) > 20
    for name in KNOWN_FRAUD_FEATURES:
        known = behaviour.FEATURES.index(name)
        assert sum(vector[known] > 0 for *_, vector in scores) > 20, name
    assert measured["frauds"] > 20 and 0 < measured["average_precision"] < 1
    assert outcomes[1] == outcomes[0] and outcomes[2] == outcomes[0]
