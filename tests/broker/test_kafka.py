"""Kafka clients and topics, on a real broker."""

import gc
import re
import uuid
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

from include.broker.kafka import (
    QUIET,
    SPARK_REDACTION,
    KafkaUnavailable,
    TopicMissing,
    bounds,
    client_config,
    end_offsets,
    ensure_topics,
    spark_options,
    topic_id,
    topics_with_producer_time,
    use_broker_time,
)
from include.platform import ports
from include.settings import Settings
from tests.waiting import PATIENCE

PASSWORD = 'ca"na\\ry'


@pytest.fixture
def fresh(kafka: Settings) -> Settings:
    """Settings with two topics that do not exist yet."""
    name = uuid.uuid4().hex[:8]
    return kafka.model_copy(update={"transactions_topic": f"t-{name}", "labels_topic": f"l-{name}"})


def secured(**more) -> Settings:
    return Settings(
        _env_file=None,
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_username="alice",
        kafka_sasl_password=PASSWORD,
        **more,
    )


def test_client_config_carries_credentials_certificate_and_more():
    config = client_config(secured(kafka_ssl_ca_location="/ca.pem"), linger_ms=5)
    assert config["sasl.mechanism"] == "SCRAM-SHA-256"
    assert (config["sasl.username"], config["sasl.password"]) == ("alice", PASSWORD)
    assert config["ssl.ca.location"] == "/ca.pem"
    assert config["linger.ms"] == 5


def test_plain_text_needs_no_credentials(settings):
    names = client_config(settings).keys() | spark_options(settings).keys()
    assert not [name for name in names if "sasl" in name or "ssl" in name]


@pytest.mark.parametrize(
    ("mechanism", "module"),
    [("PLAIN", "plain.PlainLoginModule"), ("SCRAM-SHA-512", "scram.ScramLoginModule")],
)
def test_spark_options_quote_the_password_for_jaas(mechanism, module):
    options = spark_options(secured(kafka_sasl_mechanism=mechanism, kafka_ssl_ca_location="/ca.pem"))
    jaas = options["kafka.sasl.jaas.config"]
    assert jaas.split()[0].endswith(module)
    assert jaas.endswith(r'password="ca\"na\\ry";')
    assert options["kafka.ssl.truststore.type"] == "PEM"


@pytest.mark.parametrize("pattern", SPARK_REDACTION.values())
def test_spark_shows_no_option_that_holds_the_password(pattern):
    options = spark_options(secured())
    secret = [name for name, value in options.items() if "password=" in value]
    assert secret and all(re.search(pattern, name) for name in secret)


@pytest.mark.services
def test_topics_are_created_once_and_never_altered(fresh):
    ensure_topics(fresh)
    first = topic_id(fresh, fresh.transactions_topic)
    ensure_topics(fresh.model_copy(update={"kafka_partitions": 5}))
    assert topic_id(fresh, fresh.transactions_topic) == first
    assert end_offsets(fresh, fresh.transactions_topic) == {0: 0, 1: 0}
    assert end_offsets(fresh, fresh.labels_topic) == {0: 0, 1: 0}


def sent_at(settings: Settings, topic: str, at: datetime) -> tuple[int, datetime]:
    """Kind and time of a record that a producer whose clock shows `at` sends."""
    producer = Producer(client_config(settings))
    producer.produce(topic, b"value", partition=0, timestamp=int(at.timestamp() * 1000))
    assert producer.flush(PATIENCE) == 0
    consumer = Consumer(client_config(settings, group_id="test"))
    consumer.assign([TopicPartition(topic, 0, end_offsets(settings, topic)[0] - 1)])
    kind, milliseconds = consumer.poll(PATIENCE).timestamp()
    consumer.close()
    return kind, datetime.fromtimestamp(milliseconds / 1000, UTC)


@pytest.mark.services
def test_the_time_of_a_record_is_the_brokers_and_not_its_producers(fresh):
    ensure_topics(fresh)
    began = datetime.now(UTC)
    for topic in (fresh.transactions_topic, fresh.labels_topic):
        for wrong in (timedelta(minutes=30), timedelta(days=-800)):
            kind, at = sent_at(fresh, topic, began + wrong)
            assert kind == TIMESTAMP_LOG_APPEND_TIME
            assert began <= at + timedelta(milliseconds=1) and at <= datetime.now(UTC)
    assert topics_with_producer_time(fresh) == []


@pytest.mark.services
def test_topics_of_others_are_left_as_they_are_until_they_are_asked_to_change(fresh):
    topics = [fresh.transactions_topic, fresh.labels_topic]
    admin = AdminClient(client_config(fresh))
    for future in admin.create_topics([NewTopic(name, 1) for name in topics]).values():
        future.result(PATIENCE)
    ensure_topics(fresh)
    assert topics_with_producer_time(fresh) == topics
    use_broker_time(fresh, topics[:1])
    assert topics_with_producer_time(fresh) == topics[1:]
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=30)
    assert sent_at(fresh, topics[0], ahead)[0] == TIMESTAMP_LOG_APPEND_TIME
    assert sent_at(fresh, topics[1], ahead) == (TIMESTAMP_CREATE_TIME, ahead)


@pytest.mark.services
def test_the_time_of_a_missing_topic_is_not_told(fresh):
    with pytest.raises(TopicMissing, match=fresh.transactions_topic):
        topics_with_producer_time(fresh)
    with pytest.raises(TopicMissing, match=fresh.labels_topic):
        use_broker_time(fresh, [fresh.labels_topic])


@pytest.mark.services
def test_a_recreated_topic_has_another_id(fresh):
    ensure_topics(fresh)
    first = topic_id(fresh, fresh.labels_topic)
    admin = AdminClient(client_config(fresh))
    admin.delete_topics([fresh.labels_topic])[fresh.labels_topic].result()
    with pytest.raises(TopicMissing):
        while True:
            end_offsets(fresh, fresh.labels_topic)
    ensure_topics(fresh)
    assert topic_id(fresh, fresh.labels_topic) != first


@pytest.mark.services
def test_offsets_count_records_and_deletions(fresh):
    ensure_topics(fresh)
    producer = Producer(client_config(fresh))
    for value in (b"a", b"b", b"c"):
        producer.produce(fresh.transactions_topic, value, partition=1)
    producer.flush()
    assert end_offsets(fresh, fresh.transactions_topic) == {0: 0, 1: 3}
    assert bounds(fresh, fresh.transactions_topic) == {0: (0, 0), 1: (0, 3)}
    gone = TopicPartition(fresh.transactions_topic, 1, 2)
    admin = AdminClient(client_config(fresh))
    admin.delete_records([gone])[gone].result()
    assert bounds(fresh, fresh.transactions_topic) == {0: (0, 0), 1: (2, 3)}


@pytest.mark.services
def test_a_missing_topic_is_named(fresh):
    for question in (topic_id, end_offsets, bounds):
        with pytest.raises(TopicMissing, match=f"{fresh.labels_topic}.*127.0.0.1.*create the topic"):
            question(fresh, fresh.labels_topic)


def test_an_absent_broker_is_named_with_a_remedy_and_without_the_password():
    nobody = secured(kafka_port=ports.free(1)[0])
    for question in (ensure_topics, lambda s, timeout: end_offsets(s, "t", timeout)):
        with pytest.raises(KafkaUnavailable, match=f"127.0.0.1:{nobody.kafka_port}.*BOOTSTRAP") as caught:
            question(nobody, timeout=1)
        assert PASSWORD not in str(caught.value)


@pytest.mark.services
def test_a_call_leaves_no_thread_and_no_log_handler_behind(fresh):
    nobody = fresh.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{ports.free(1)[0]}"})
    ensure_topics(fresh)
    process = psutil.Process()
    gc.disable()  # a reference cycle would keep a client with its threads until the collector comes by
    try:
        threads, handlers = process.num_threads(), len(QUIET.handlers)
        for _ in range(10):
            topic_id(fresh, fresh.labels_topic)
            end_offsets(fresh, fresh.labels_topic)
            with pytest.raises(TopicMissing):
                end_offsets(fresh, "absent")
        with pytest.raises(KafkaUnavailable):
            end_offsets(nobody, fresh.labels_topic, timeout=0.5)
        assert process.num_threads() <= threads and len(QUIET.handlers) == handlers
    finally:
        gc.enable()


@pytest.mark.services
def test_a_consumer_and_a_producer_use_the_same_configuration(fresh):
    ensure_topics(fresh)
    producer = Producer(client_config(fresh, enable_idempotence=True))
    producer.produce(fresh.labels_topic, b"value", key=b"key", partition=0)
    producer.flush()
    consumer = Consumer(client_config(fresh, group_id="test"))
    consumer.assign([TopicPartition(fresh.labels_topic, 0, 0)])
    assert consumer.poll(PATIENCE).value() == b"value"
    consumer.close()


@pytest.mark.services
@pytest.mark.parametrize("code", [KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_LEADER_EPOCH])
def test_offsets_are_asked_again_while_a_new_topic_gets_its_leaders(fresh, monkeypatch, code):
    ensure_topics(fresh)
    real, asked = AdminClient.list_offsets, []

    def list_offsets(self, specs, **options):
        asked.append(specs)
        if len(asked) > 1:
            return real(self, specs, **options)
        refused = Future()
        refused.set_exception(KafkaException(KafkaError(code)))
        return dict.fromkeys(specs, refused)

    monkeypatch.setattr(AdminClient, "list_offsets", list_offsets)
    assert end_offsets(fresh, fresh.transactions_topic) == {0: 0, 1: 0}
    assert len(asked) == 2
