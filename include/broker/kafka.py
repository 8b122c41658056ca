"""Everything that knows how to reach Kafka: client settings, topics and offsets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka import KafkaError as ErrorCode
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    TopicMetadata,
)

from include.settings import Settings

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

# For clients whose complaints come back in an error that is raised.
QUIET = logging.getLogger(f"{__name__}.librdkafka")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False

# Whose clock the time of a record comes from, a setting of its topic.
TIME_OF_RECORDS, BROKERS_TIME = "message.timestamp.type", "LogAppendTime"

# Session settings that keep the credentials in `spark_options` out of Spark's plans, logs and web pages.
SPARK_REDACTION = {
    "spark.redaction.regex": r"(?i)secret|password|token|access[.]?key|jaas",
    "spark.sql.redaction.options.regex": r"(?i)url|secret|password|jaas",
}


class KafkaError(RuntimeError):
    """Kafka could not do what was asked; the message names the brokers and what to do."""


class KafkaUnavailable(KafkaError):
    """No broker answered in time."""


class KafkaRefused(KafkaError):
    """The brokers answered and refused: credentials, certificate or permissions."""


class TopicMissing(KafkaError):
    """A topic does not exist."""


# The broker does not accept a user or its password.
UNAUTHENTICATED = (ErrorCode._AUTHENTICATION, ErrorCode.SASL_AUTHENTICATION_FAILED)
_CHECK_PASSWORD = "check FRAUDSTREAM_KAFKA_SASL_USERNAME and FRAUDSTREAM_KAFKA_SASL_PASSWORD"
_REFUSALS = {
    **dict.fromkeys(UNAUTHENTICATED, _CHECK_PASSWORD),
    ErrorCode._SSL: "check FRAUDSTREAM_KAFKA_SSL_CA_LOCATION and the name in the broker's certificate",
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: "give this user access to the topic",
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: "give this user access to the cluster",
}
_MISSING = {ErrorCode.UNKNOWN_TOPIC_OR_PART, ErrorCode._UNKNOWN_TOPIC, ErrorCode._UNKNOWN_PARTITION}

# A partition's leader is just being chosen, or has not heard of it yet.
_MOVING = {
    ErrorCode.NOT_LEADER_FOR_PARTITION,
    ErrorCode.LEADER_NOT_AVAILABLE,
    ErrorCode.UNKNOWN_LEADER_EPOCH,
    ErrorCode.FENCED_LEADER_EPOCH,
}


def client_config(settings: Settings, **more: Any) -> dict[str, Any]:
    """Configuration of a confluent-kafka client.

    Args:
        more: callbacks, and further librdkafka properties with `_` for `.`: `linger_ms=5`.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "client.id": "fraudstream",
    }
    if user := settings.kafka_reader:
        config |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": user.name,
            "sasl.password": user.password,
        }
    if settings.kafka_security_protocol.endswith("SSL"):
        config["ssl.endpoint.identification.algorithm"] = "https"
        if settings.kafka_ssl_ca_location is not None:
            config["ssl.ca.location"] = str(settings.kafka_ssl_ca_location)
    return config | {
        name if callable(value) else name.replace("_", "."): value for name, value in more.items()
    }


def writer_config(settings: Settings, **more: Any) -> dict[str, Any]:
    """Configuration of a confluent-kafka producer of events: none lost, none twice, as the user who may write.

    Args:
        more: as for `client_config`.
    """
    config = client_config(settings, enable_idempotence=True, acks="all", **more)
    if user := settings.kafka_writer:
        config |= {"sasl.username": user.name, "sasl.password": user.password}
    return config


def reader_config(settings: Settings, group_id: str, **more: Any) -> dict[str, Any]:
    """Configuration of a confluent-kafka consumer that reads committed records only, from where it is told to.

    It reports the end of each partition (`_PARTITION_EOF`) with the offset that it got to, which lies behind markers
    of transactions and other offsets without a record. It never commits, and never skips what the broker has deleted.

    Args:
        more: as for `client_config`.
    """
    return client_config(
        settings,
        group_id=group_id,
        isolation_level="read_committed",
        enable_partition_eof=True,
        enable_auto_commit=False,
        enable_auto_offset_store=False,
        auto_offset_reset="error",
        **more,
    )


def spark_options(settings: Settings) -> dict[str, str]:
    """Options of Spark's Kafka source or sink; build the session with `SPARK_REDACTION`."""
    options = {
        "kafka.bootstrap.servers": settings.kafka_bootstrap_servers,
        "kafka.security.protocol": settings.kafka_security_protocol,
    }
    if user := settings.kafka_reader:
        module = "plain.PlainLoginModule"
        if settings.kafka_sasl_mechanism.startswith("SCRAM"):
            module = "scram.ScramLoginModule"
        options["kafka.sasl.mechanism"] = settings.kafka_sasl_mechanism
        options["kafka.sasl.jaas.config"] = (
            f"org.apache.kafka.common.security.{module} required "
            f"username={_jaas_text(user.name)} password={_jaas_text(user.password)};"
        )
    if settings.kafka_security_protocol.endswith("SSL") and settings.kafka_ssl_ca_location is not None:
        options["kafka.ssl.truststore.type"] = "PEM"
        options["kafka.ssl.truststore.location"] = str(settings.kafka_ssl_ca_location)
    return options


def ensure_topics(settings: Settings, timeout: float = 30.0) -> None:
    """Create the topics of transactions, labels and alerts where missing, and wait until each partition has a leader.

    Records of a topic that is made here carry the broker's time: no sender can set the clock by which its events are
    judged. An existing topic is left as it is.

    Raises:
        KafkaUnavailable: no broker, or no leader, within `timeout` seconds.
        KafkaRefused: the brokers refuse this user.
    """
    broker = _Admin(settings, timeout)
    topics = list(
        filter(None, (settings.transactions_topic, settings.labels_topic, settings.fraud_alerts_topic))
    )
    present = broker.topics()
    config = {TIME_OF_RECORDS: BROKERS_TIME}
    if settings.kafka_replication_factor >= 3:
        config["min.insync.replicas"] = "2"
    missing = [
        NewTopic(topic, settings.kafka_partitions, settings.kafka_replication_factor, config=config)
        for topic in topics
        if topic not in present
    ]
    if missing:
        for topic, future in broker.client.create_topics(missing, operation_timeout=timeout).items():
            try:
                broker.call(future.result)
            except KafkaException as error:
                if error.args[0].code() != ErrorCode.TOPIC_ALREADY_EXISTS:
                    raise broker.problem(error, f"topic {topic!r} cannot be created") from error
            else:
                log.info("created topic %s with %d partitions", topic, settings.kafka_partitions)
    deadline = time.monotonic() + timeout
    while leaderless := [topic for topic in topics if not _has_leaders(broker, topic)]:
        if time.monotonic() > deadline:
            raise KafkaUnavailable(
                f"topic {', '.join(leaderless)} at {settings.kafka_bootstrap_servers} has partitions without "
                f"a leader after {timeout:.0f} s: see the broker's log"
            )
        time.sleep(0.1)
    for topic in topics:
        _offsets(settings, topic, timeout, OffsetSpec.latest())


def topic_id(settings: Settings, topic: str, timeout: float = 10.0) -> str:
    """Id that the brokers gave a topic; a topic that was deleted and created again has another one.

    Raises:
        TopicMissing, KafkaUnavailable, KafkaRefused
    """
    broker = _Admin(settings, timeout)
    future = broker.client.describe_topics(TopicCollection([topic]), request_timeout=timeout)[topic]
    try:
        return str(broker.call(future.result).topic_id)
    except KafkaException as error:
        raise broker.problem(error, f"topic {topic!r} cannot be described") from error


def topics_with_producer_time(settings: Settings, timeout: float = 10.0) -> list[str]:
    """Those of the two topics whose records carry the time of their producer's clock.

    Raises:
        TopicMissing, KafkaUnavailable, KafkaRefused
    """
    broker = _Admin(settings, timeout)
    asked = [_topic_config(topic) for topic in (settings.transactions_topic, settings.labels_topic)]
    answers = broker.client.describe_configs(asked, request_timeout=timeout)
    with_producer_time = []
    for topic, future in answers.items():
        try:
            if broker.call(future.result)[TIME_OF_RECORDS].value != BROKERS_TIME:
                with_producer_time.append(topic.name)
        except KafkaException as error:
            raise broker.problem(error, f"settings of topic {topic.name!r} cannot be read") from error
    return with_producer_time


def use_broker_time(settings: Settings, topics: Sequence[str], timeout: float = 10.0) -> None:
    """Lets records that these topics get from now on carry the time of the broker's clock.

    Raises:
        TopicMissing, KafkaUnavailable, KafkaRefused
    """
    broker = _Admin(settings, timeout)
    entry = ConfigEntry(TIME_OF_RECORDS, BROKERS_TIME, incremental_operation=AlterConfigOpType.SET)
    changed = [_topic_config(topic, entry) for topic in topics]
    for topic, future in broker.client.incremental_alter_configs(changed, request_timeout=timeout).items():
        try:
            broker.call(future.result)
        except KafkaException as error:
            raise broker.problem(error, f"topic {topic.name!r} cannot be changed") from error


def _topic_config(topic: str, *entries: ConfigEntry) -> ConfigResource:
    return ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=list(entries))


class Bounds(NamedTuple):
    """What a reader of committed records can get of a partition: offsets [begin, end).

    Not every offset has a record. A transaction that is open holds `end` back.
    """

    begin: int
    end: int


def bounds(settings: Settings, topic: str, timeout: float = 10.0) -> dict[int, Bounds]:
    """What the broker holds of each of a topic's partitions.

    Raises:
        TopicMissing, KafkaUnavailable, KafkaRefused
    """
    begins, ends = _offsets(settings, topic, timeout, OffsetSpec.earliest(), OffsetSpec.latest())
    return {partition: Bounds(begin, ends[partition]) for partition, begin in begins.items()}


def end_offsets(settings: Settings, topic: str, timeout: float = 10.0) -> dict[int, int]:
    """The end of each partition, as in `bounds`.

    Raises:
        TopicMissing, KafkaUnavailable, KafkaRefused
    """
    (ends,) = _offsets(settings, topic, timeout, OffsetSpec.latest())
    return ends


def offset_of(message: Message) -> int:
    """The offset of a message that came from a broker."""
    offset = message.offset()
    assert offset is not None, "a message that was read has an offset"
    return offset


def records(
    settings: Settings, topic: str, ranges: Mapping[int, Bounds], timeout: float = 30.0
) -> Iterator[Message]:
    """The committed records in a range of each partition, one partition after the other.

    Raises:
        KafkaUnavailable: nothing came for `timeout` seconds, or the broker does not have the range any more.
    """
    # The end of a partition is reported when a request for more comes back empty.
    config = reader_config(settings, "fraudstream-reader", fetch_wait_max_ms=50)
    consumer = Consumer(config, logger=QUIET)
    try:
        for partition, (position, end) in ranges.items():
            if position < end:
                consumer.assign([TopicPartition(topic, partition, position)])
            while position < end:
                message = consumer.poll(timeout)
                error = ErrorCode(ErrorCode._TIMED_OUT) if message is None else message.error()
                if error is not None and error.code() == ErrorCode.GROUP_AUTHORIZATION_FAILED:
                    continue  # a client needs the name of a group, and no right to it: the ledger has the offsets
                at_end = error is not None and error.code() == ErrorCode._PARTITION_EOF
                if message is None or (error is not None and not at_end):
                    raise KafkaUnavailable(
                        f"offsets {position} to {end - 1} of partition {partition} of {topic} at "
                        f"{settings.kafka_bootstrap_servers} could not be read: {error and error.str()}"
                    )
                offset = offset_of(message)
                if not at_end and offset < end:
                    yield message
                position = offset if at_end else offset + 1
    finally:
        consumer.close()


class _LastError:
    """Why a broker could not be reached, as a client's `error_cb`: its calls only say `timed out`.

    It knows neither the client nor who asks it: a client whose callback leads back to it keeps its threads until
    Python's cycle collector comes by.
    """

    def __init__(self) -> None:
        self.error: ErrorCode | None = None

    def __call__(self, error: ErrorCode) -> None:
        if self.error is None or self.error.code() not in _REFUSALS:
            self.error = error


class _Admin:
    """An AdminClient whose errors name the broker, the cause and the remedy."""

    def __init__(self, settings: Settings, timeout: float):
        self.servers = settings.kafka_bootstrap_servers
        self.timeout = timeout
        self.last = _LastError()
        self.client = AdminClient(client_config(settings, error_cb=self.last), logger=QUIET)

    def topics(self) -> dict[str, TopicMetadata]:
        """All topics: to ask for one by its name would create it on brokers that allow that."""
        try:
            return self.client.list_topics(timeout=self.timeout).topics
        except KafkaException as error:
            raise self.problem(error, "no broker answers") from error

    def call(self, result: Callable[[float], Answer]) -> Answer:
        """What a future of the client gives."""
        return result(self.timeout + 5)

    def problem(self, error: KafkaException, what: str) -> KafkaError:
        self.client.poll(0.1)  # delivers the error callback
        cause = error.args[0]
        if cause.code() not in _REFUSALS | dict.fromkeys(_MISSING) and self.last.error is not None:
            cause = self.last.error
        message = f"{what} at {self.servers}: {cause.str()}"
        if cause.code() in _REFUSALS:
            return KafkaRefused(f"{message}: {_REFUSALS[cause.code()]}")
        if cause.code() in _MISSING:
            return TopicMissing(f"{message}: create the topic first")
        return KafkaUnavailable(
            f"{message}: is it running, and is FRAUDSTREAM_KAFKA_BOOTSTRAP_SERVERS right?"
        )


def _jaas_text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _has_leaders(broker: _Admin, topic: str) -> bool:
    metadata = broker.topics().get(topic)
    return (
        metadata is not None
        and metadata.error is None
        and bool(metadata.partitions)
        and all(
            partition.leader >= 0 and partition.error is None for partition in metadata.partitions.values()
        )
    )


def _offsets(settings: Settings, topic: str, timeout: float, *specs: OffsetSpec) -> list[dict[int, int]]:
    """For each of the specs, the offsets of the same partitions."""
    broker = _Admin(settings, timeout)
    metadata = broker.topics().get(topic)
    if metadata is None:
        raise broker.problem(_why_not_listed(broker, topic), f"topic {topic!r} cannot be read")
    if metadata.error is not None:
        raise broker.problem(KafkaException(metadata.error), f"topic {topic!r} cannot be read")
    partitions = [TopicPartition(topic, partition) for partition in sorted(metadata.partitions)]
    return [_list_offsets(broker, topic, dict.fromkeys(partitions, spec)) for spec in specs]


def _why_not_listed(broker: _Admin, topic: str) -> KafkaException:
    """Brokers leave out of the list what is missing and what the user may not see; asked for it, they say which."""
    future = broker.client.describe_topics(TopicCollection([topic]), request_timeout=broker.timeout)[topic]
    error = future.exception(
        broker.timeout + 5
    )  # not raised, which would keep the client in a reference cycle
    missing = KafkaException(ErrorCode(ErrorCode.UNKNOWN_TOPIC_OR_PART))
    return error if isinstance(error, KafkaException) else missing


def _list_offsets(broker: _Admin, topic: str, wanted: dict[TopicPartition, OffsetSpec]) -> dict[int, int]:
    deadline = time.monotonic() + broker.timeout
    while True:
        futures = broker.client.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=broker.timeout
        )
        try:
            return {asked.partition: broker.call(future.result).offset for asked, future in futures.items()}
        except KafkaException as error:
            if error.args[0].code() not in _MOVING or time.monotonic() > deadline:
                raise broker.problem(error, f"offsets of {topic!r} cannot be read") from error
        time.sleep(0.1)
