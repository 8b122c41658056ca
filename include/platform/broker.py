"""The embedded Kafka broker: one node in KRaft mode, on loopback."""

from __future__ import annotations

import base64
import socket
import struct
import subprocess
import uuid

from include.platform import jars
from include.settings import Settings

SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={home}/kafka
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
log.cleaner.dedupe.buffer.size=16777216
group.initial.rebalance.delay.ms=0
log.retention.hours=168
log.segment.bytes=268435456
"""
API_VERSIONS, CORRELATION = 18, 1
LOG4J = """\
Configuration:
  status: ERROR
  Appenders:
    Console:
      name: out
      PatternLayout: {pattern: "%d{ISO8601} %p %c{1} %m%n"}
  Loggers:
    Root: {level: WARN, AppenderRef: [{ref: out}]}
"""


def _java(settings: Settings, main: str, *arguments: str) -> list[str]:
    return [
        "java", "-Xmx320m", "-Xms128m", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError",
        f"-Dlog4j2.configurationFile={settings.home}/kafka-log4j2.yaml",
        "-cp", jars.broker_classpath(), main, *arguments,
    ]  # fmt: skip


def initialise(settings: Settings) -> None:
    """Writes the broker's configuration and formats its storage unless that is done."""
    properties = settings.home / "kafka.properties"
    properties.write_text(
        SERVER_PROPERTIES.format(
            home=settings.home, port=settings.kafka_port, controller_port=settings.kafka_controller_port
        )
    )
    (settings.home / "kafka-log4j2.yaml").write_text(LOG4J)
    if (settings.home / "kafka" / "meta.properties").exists():
        return
    format_storage = ("format", "--ignore-formatted", "-t", _cluster_id(), "-c", str(properties))
    done = subprocess.run(
        _java(settings, "kafka.tools.StorageTool", *format_storage),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"Kafka's storage could not be formatted: {done.stdout}{done.stderr}".strip())


def _cluster_id() -> str:
    """A random id, as Kafka makes them: the tool would take one that begins with a dash for an option."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        continue
    return made


def command(settings: Settings) -> list[str]:
    return _java(settings, "kafka.Kafka", str(settings.home / "kafka.properties"))


def ready(settings: Settings, timeout: float = 3) -> bool:
    """True when the broker answers a request: the machine accepts connections for one that hangs.

    Asks for the versions of its API, which needs no log-in and, unlike a client of librdkafka, no threads.
    """
    request = struct.pack(">hhih", API_VERSIONS, 0, CORRELATION, -1)  # version 0, no client id
    try:
        with socket.create_connection(("127.0.0.1", settings.kafka_port), timeout) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(8, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(answer) == 8 and struct.unpack(">ii", answer)[1] == CORRELATION
