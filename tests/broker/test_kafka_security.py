"""Encrypted, authenticated and authorised connections, against a real SASL_SSL broker with SCRAM-SHA-256.

Its users may do what the table in docs/deploy.md says, and nothing else.
"""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from include.broker.kafka import (
    SPARK_REDACTION,
    KafkaRefused,
    client_config,
    end_offsets,
    ensure_topics,
    spark_options,
    writer_config,
)
from include.broker.publish import DeliveryFailed, Publisher
from include.generator.resume import PublishedHistory, published_history
from include.operations import dead_letters
from include.platform import broker as kafka_server
from include.platform import jars
from include.platform.temporary import running, temporary_settings
from include.settings import PROJECT_ROOT, Settings
from tests import canaries
from tests.builders import event_bytes, label_bytes
from tests.payments import keep_champion
from tests.stream_runs import Submitted, query
from tests.waiting import PATIENCE

pytestmark = pytest.mark.services

PASSWORD = 'canary "quoted" \\ password'
READER, WRITER = "FRAUDSTREAM_KAFKA_SASL_USERNAME", "FRAUDSTREAM_KAFKA_WRITER_SASL_USERNAME"
USERS = {READER: "alice", WRITER: "walter"}
KEYSTORE_PASSWORD = "changeit"
SERVER_PROPERTIES = """
listeners=SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=SASL_SSL://127.0.0.1:{port}
listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-256
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-256
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required username="admin" password="admin";
ssl.keystore.location={keystore}
ssl.keystore.type=PKCS12
ssl.keystore.password=changeit
ssl.truststore.location={pem}
ssl.truststore.type=PEM
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
"""  # ANONYMOUS: the controller's listener has no password and is on this machine only


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A key store with a self-signed certificate for 127.0.0.1, and the certificate as PEM."""
    store, pem = folder / f"{name}.p12", folder / f"{name}.pem"
    access = ["-keystore", str(store), "-storepass", KEYSTORE_PASSWORD, "-alias", "broker"]
    make = ["-genkeypair", "-keyalg", "RSA", "-storetype", "PKCS12", "-validity", "2", "-dname", "CN=broker"]
    for command in (
        ["keytool", *make, "-ext", "SAN=ip:127.0.0.1", *access],
        ["keytool", "-exportcert", "-rfc", "-file", str(pem), *access],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return store, pem


def permissions() -> Iterator[AclBinding]:
    """What the table in docs/deploy.md grants: `| user | topics: names | operations |`."""
    text = (PROJECT_ROOT / "docs" / "deploy.md").read_text()
    for user, topics, operations in re.findall(r"^\| `(\w+)` \| topics: (.*?) \| (.*?) \|$", text, re.M):
        for topic in re.findall("`(.*?)`", topics):
            for operation in operations.split(", "):
                yield AclBinding(
                    ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{USERS[user]}", "*",
                    AclOperation[operation.upper()], AclPermissionType.ALLOW,
                )  # fmt: skip


def _accepts_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory):
    """Settings with a user who reads and one who writes, at a broker that knows what each may do."""
    jars.fetch()
    home = tmp_path_factory.mktemp("secure-kafka")
    store, pem = certificate(home, "broker")
    settings = temporary_settings(
        home,
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_username="alice",
        kafka_sasl_password=PASSWORD,
        kafka_writer_sasl_username="walter",
        kafka_writer_sasl_password=f"{PASSWORD} of walter",
        kafka_ssl_ca_location=pem,
    )
    port, controller_port = settings.kafka_port, settings.kafka_controller_port
    plain = kafka_server.SERVER_PROPERTIES.format(home=home, port=port, controller_port=controller_port)
    kept = [line for line in plain.splitlines() if not line.startswith(("listener", "advertised"))]
    properties = home / "kafka.properties"
    properties.write_text(
        "\n".join(kept)
        + SERVER_PROPERTIES.format(port=port, controller_port=controller_port, keystore=store, pem=pem)
    )
    (home / "kafka-log4j2.yaml").write_text(kafka_server.LOG4J)
    passwords = {"alice": PASSWORD, "walter": f"{PASSWORD} of walter", "admin": "admin"}
    users = [f"SCRAM-SHA-256=[name={name},password={password}]" for name, password in passwords.items()]
    format_storage = ["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", str(properties)]
    for user in users:
        format_storage += ["--add-scram", user]
    subprocess.run(
        kafka_server._java(settings, "kafka.tools.StorageTool", *format_storage),
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    command = kafka_server._java(settings, "kafka.Kafka", str(properties))
    # `ready` of the embedded broker speaks without TLS, which this one does not answer.
    with running("kafka", settings, command, lambda: _accepts_connections(port)):
        admin = AdminClient(client_config(settings) | {"sasl.username": "admin", "sasl.password": "admin"})
        granted = list(permissions())
        assert granted
        for done in admin.create_acls(granted).values():
            done.result(PATIENCE)
        ensure_topics(settings)
        yield settings


def produce(settings: Settings) -> None:
    producer = Producer(writer_config(settings))
    producer.produce(settings.transactions_topic, b"value", b"key")
    assert producer.flush(PATIENCE) == 0


def test_the_right_password_and_certificate_open_the_door(secure):
    before = sum(end_offsets(secure, secure.transactions_topic).values())
    produce(secure)
    assert sum(end_offsets(secure, secure.transactions_topic).values()) == before + 1


@pytest.mark.parametrize("question", [ensure_topics, lambda s, timeout: end_offsets(s, "t", timeout)])
def test_a_wrong_password_is_refused_by_name_and_never_shown(secure, question):
    wrong = secure.model_copy(
        update={"kafka_sasl_password": type(secure.kafka_sasl_password)("mistyped canary")}
    )
    with pytest.raises(KafkaRefused, match="FRAUDSTREAM_KAFKA_SASL_PASSWORD") as caught:
        question(wrong, timeout=5)
    assert str(secure.kafka_port) in str(caught.value) and "canary" not in str(caught.value)


def test_a_broker_with_another_certificate_is_refused(secure, tmp_path):
    other = secure.model_copy(update={"kafka_ssl_ca_location": certificate(tmp_path, "other")[1]})
    with pytest.raises(KafkaRefused, match="FRAUDSTREAM_KAFKA_SSL_CA_LOCATION"):
        ensure_topics(other, timeout=5)


@pytest.mark.parametrize(
    "question", [ensure_topics, lambda s, timeout: end_offsets(s, s.transactions_topic, timeout)]
)
def test_a_missing_right_is_one_line_with_the_topic_and_what_to_do(secure, question):
    admin = AdminClient(client_config(secure) | {"sasl.username": "admin", "sasl.password": "admin"})
    for done in admin.create_topics([NewTopic("of-others", 1, 1)]).values():
        with suppress(KafkaException):  # of the test before
            done.result(PATIENCE)
    others = secure.model_copy(update={"transactions_topic": "of-others"})
    with pytest.raises(KafkaRefused, match="give this user access to the topic") as caught:
        question(others, timeout=5)
    message = str(caught.value)
    assert "of-others" in message and str(secure.kafka_port) in message and "\n" not in message


def test_spark_reads_with_the_same_settings(secure, spark):
    produce(secure)
    rows = (
        spark.read.format("kafka")
        .options(**spark_options(secure))
        .option("subscribe", secure.transactions_topic)
        .load()
    )
    assert rows.count() == sum(end_offsets(secure, secure.transactions_topic).values()) >= 1


def test_the_password_is_in_no_plan_no_progress_and_no_checkpoint(secure, spark, tmp_path, capfd):
    produce(secure)
    name = "spark.sql.redaction.options.regex"
    spark.conf.set(name, SPARK_REDACTION[name])
    try:
        source = (
            spark.readStream.format("kafka")
            .options(**spark_options(secure))
            .option("subscribe", secure.transactions_topic)
            .option("startingOffsets", "earliest")
            .load()
        )
        writer = source.writeStream.format("memory").queryName("plans").trigger(availableNow=True)
        query = writer.option("checkpointLocation", tmp_path.as_uri()).start()
        query.awaitTermination(60)
        plans = [query._jsq.explainInternal(True), source._jdf.queryExecution().toString()]
    finally:
        spark.conf.unset(name)
    assert sum(progress["numInputRows"] for progress in query.recentProgress) > 0
    assert any("redacted" in plan for plan in plans), "the options are not shown: nothing was tested"
    shown = [*plans, *(str(progress) for progress in query.recentProgress), *capfd.readouterr()]
    assert not any("quoted" in text for text in shown)
    assert canaries.in_files({"password": "quoted"}, tmp_path) == []


def test_the_user_who_reads_cannot_write(secure):
    producer = Producer(client_config(secure))
    refusals: list[str] = []
    # An error raised in this callback would keep the producer alive, which then calls for the broker for ever.
    producer.produce(
        secure.transactions_topic,
        b"forged",
        on_delivery=lambda error, _: refusals.append(error and error.name()),
    )
    assert producer.flush(PATIENCE) == 0
    assert refusals == ["TOPIC_AUTHORIZATION_FAILED"]


def test_the_user_who_writes_cannot_read_nor_delete(secure):
    produce(secure)
    writer = {
        key: value
        for key, value in writer_config(secure).items()
        if key not in ("enable.idempotence", "acks")
    }
    consumer = Consumer(writer | {"group.id": "fraudstream-any", "auto.offset.reset": "earliest"})
    consumer.subscribe([secure.transactions_topic])
    refused = consumer.poll(PATIENCE)
    consumer.close()
    assert refused.error().name() in ("TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED")
    for config in (writer, client_config(secure)):
        admin = AdminClient(config)
        (deleted,) = admin.delete_topics([secure.transactions_topic]).values()
        with pytest.raises(KafkaException, match="AUTHORIZATION"):
            deleted.result(PATIENCE)


@pytest.mark.parametrize(
    "changed", [{"kafka_writer_sasl_password": "mistyped"}, {"kafka_writer_sasl_username": "nobody"}]
)
def test_a_writer_who_is_not_known_ends_with_the_setting_to_check(secure, changed):
    values = secure.model_dump() | changed
    publisher = Publisher(Settings(_env_file=None, **values), Event())
    publisher.send(secure.transactions_topic, b"key", b"value")
    with pytest.raises(DeliveryFailed, match=WRITER) as caught:
        publisher.flush(PATIENCE)
    assert "canary" not in str(caught.value)


@pytest.mark.timeout(600)
def test_both_streams_and_a_replay_need_no_more_than_the_table_says(secure, clean_postgres, tmp_path):
    """Both jobs read transactions and labels, what became a dead letter is written again, a producer looks back."""
    own = {
        "home": tmp_path,
        "postgres_port": clean_postgres.postgres_port,
        "mlflow_tracking_uri": "http://127.0.0.1:9",
    }
    own["postgres_passfile"] = clean_postgres.postgres_passfile
    settings = secure.model_copy(update=own)
    keep_champion(settings)
    publisher = Publisher(settings, Event())
    publisher.send(settings.transactions_topic, b"user", event_bytes(transaction_id="secured"))
    publisher.send(settings.labels_topic, b"secured", label_bytes(transaction_id="secured"))
    publisher.send(settings.transactions_topic, b"user", b"neither JSON nor anything else")
    assert publisher.flush(PATIENCE) == 0
    with (
        Submitted(settings, "transaction_stream", tmp_path / "transactions.log") as storing,
        Submitted(settings, "fraud_stream", tmp_path / "scores.log") as scoring,
    ):
        storing.until(
            lambda: query(settings, "select transaction_id from shop.transactions") == [("secured",)]
        )
        storing.until(lambda: query(settings, "select count(*) from shop.fraud_transactions") == [(1,)])
        scoring.until(
            lambda: query(settings, "select transaction_id from shop.fraud_scores") == [("secured",)]
        )
        scoring.until(lambda: query(settings, "select count(*) from shop.known_labels") == [(1,)])
        letters = "select count(*) from shop.dead_letters"
        before = query(settings, letters)[0][0]
        assert sum(dead_letters.replay(settings).values()) == before > 0
        storing.until(lambda: query(settings, letters) == [(2 * before,)])
    assert published_history(settings) == PublishedHistory(empty=False, unfinished=None)
