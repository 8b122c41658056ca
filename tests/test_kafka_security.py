"""Encrypted and authenticated connections, against a real SASL_SSL broker with SCRAM-SHA-256."""

import subprocess
from pathlib import Path

import pytest
from confluent_kafka import Producer

from include.kafka import (
    SPARK_REDACTION,
    KafkaRefused,
    client_config,
    end_offsets,
    ensure_topics,
    spark_options,
)
from include.platform import jars, ports
from include.platform import kafka as kafka_server
from include.settings import Settings
from tests import canaries
from tests.conftest import running

pytestmark = pytest.mark.services

PASSWORD = 'canary "quoted" \\ password'
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
"""


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


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory):
    """Settings of the user alice at a broker that knows her."""
    jars.fetch()
    home = tmp_path_factory.mktemp("secure-kafka")
    store, pem = certificate(home, "broker")
    port, controller_port = ports.free(2)
    settings = Settings(
        _env_file=None,
        home=home,
        kafka_port=port,
        kafka_controller_port=controller_port,
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_username="alice",
        kafka_sasl_password=PASSWORD,
        kafka_ssl_ca_location=pem,
    )
    plain = kafka_server.SERVER_PROPERTIES.format(home=home, port=port, controller_port=controller_port)
    kept = [line for line in plain.splitlines() if not line.startswith(("listener", "advertised"))]
    properties = home / "kafka.properties"
    properties.write_text(
        "\n".join(kept)
        + SERVER_PROPERTIES.format(port=port, controller_port=controller_port, keystore=store, pem=pem)
    )
    (home / "kafka-log4j2.yaml").write_text(kafka_server.LOG4J)
    users = [f"SCRAM-SHA-256=[name=alice,password={PASSWORD}]", "SCRAM-SHA-256=[name=admin,password=admin]"]
    format_storage = ["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", str(properties)]
    for user in users:
        format_storage += ["--add-scram", user]
    subprocess.run(
        kafka_server._java(settings, "kafka.tools.StorageTool", *format_storage),
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    command = kafka_server._java(settings, "kafka.Kafka", str(properties))
    with running("Kafka", command, lambda: kafka_server.ready(settings), home / "kafka.log"):
        ensure_topics(settings)
        yield settings


def produce(settings: Settings) -> None:
    producer = Producer(client_config(settings))
    producer.produce(settings.transactions_topic, b"value", b"key")
    assert producer.flush(20) == 0


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
    assert sum(each["numInputRows"] for each in query.recentProgress) > 0
    assert any("redacted" in plan for plan in plans), "the options are not shown: nothing was tested"
    shown = [*plans, *(str(each) for each in query.recentProgress), *capfd.readouterr()]
    assert not any("quoted" in text for text in shown)
    assert canaries.in_files({"password": "quoted"}, tmp_path) == []
