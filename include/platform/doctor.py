"""Checks, before anything is started, whether this machine can run the platform; each failure says what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from include.broker import kafka
from include.broker.keys import newest_keys
from include.platform import ports, supervisor
from include.settings import Settings

GIB = 2**30
MIN_JAVA = (17, 0, 11)  # Spark 4.2
MIN_MEMORY_GIB = 8
MIN_DISK_GIB = 5


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, whether it is good, and what was found or is to be done."""

    name: str
    good: bool
    message: str


def examine(settings: Settings) -> list[Check]:
    """All checks, in the order in which a person would fix them."""
    return [check for group in (_python, _java, _memory, _disk, _state, _ports) for check in group(settings)]


def advise(settings: Settings) -> list[Check]:
    """What of a running broker and its producers should be changed; nothing when there is none yet."""
    try:
        topics = kafka.topics_with_producer_time(settings, timeout=5)
        keys = newest_keys(settings, settings.transactions_topic)
    except (kafka.KafkaUnavailable, kafka.TopicMissing):
        return []
    except kafka.KafkaError as error:
        return [Check("Time of records", False, f"not known: {error}")]
    time = (
        f"{', '.join(topics)}: the producer's clock sets the time of records. A producer whose clock is ahead can send "
        "events of the future, and delays and waiting times are wrong by as much. `fraudstream doctor --broker-time` "
        "lets the broker's clock set the time of all later records"
    )
    problem = keys.problem(settings.transactions_topic)
    return [
        Check("Time of records", not topics, time if topics else "the broker's clock"),
        Check("Keys of records", not problem, problem or "each customer has one partition"),
    ]


def _python(settings: Settings) -> Iterator[Check]:
    version = sys.version_info[:2]
    version_text = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= version <= (3, 12)
    yield Check(
        "Python",
        good,
        version_text if good else f"{version_text}: install 3.11 or 3.12, then `make up PYTHON=python3.12`",
    )


def parse_java_version(text: str) -> tuple[int, ...] | None:
    """`(17, 0, 15)` from what `java -version` prints; None when there is no version in it."""
    match = re.search(r'version "([\d.]+)', text)
    return tuple(int(part) for part in match.group(1).split(".")) if match else None


def _java(settings: Settings) -> Iterator[Check]:
    remedy = "install a Java runtime of 17.0.11 or newer (17 or 21), e.g. the package openjdk-17-jre-headless"
    if not shutil.which("java"):
        yield Check("Java", False, f"no `java` on PATH: {remedy}")
        return
    version = parse_java_version(
        subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    )
    good = version is not None and version >= MIN_JAVA
    version_text = ".".join(map(str, version or ())) or "unknown version"
    yield Check("Java", good, version_text if good else f"{version_text}: {remedy}")


def _memory(settings: Settings) -> Iterator[Check]:
    total = psutil.virtual_memory().total / GIB
    good = total >= MIN_MEMORY_GIB * 0.95
    yield Check(
        "Memory", good, f"{total:.0f} GiB" if good else f"{total:.1f} GiB: {MIN_MEMORY_GIB} GiB are needed"
    )


def _disk(settings: Settings) -> Iterator[Check]:
    folder = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free / GIB
    message = f"{free:.0f} GiB free at {folder}"
    good = free >= MIN_DISK_GIB
    remedy = f"free some, {MIN_DISK_GIB} GiB are needed, or set FRAUDSTREAM_HOME to a folder on another disk"
    yield Check("Disk", good, message if good else f"{message}: {remedy}")


def _state(settings: Settings) -> Iterator[Check]:
    message = str(settings.home)
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (settings.home / ".write-test").touch()
        (settings.home / ".write-test").unlink()
    except OSError as error:
        yield Check(
            "State folder", False, f"{message}: {error.strerror}; set FRAUDSTREAM_HOME to a folder of yours"
        )
        return
    yield Check("State folder", True, message)


def _ports(settings: Settings) -> Iterator[Check]:
    if supervisor.running(settings):
        yield Check("Ports", True, "in use by this platform, which is running")
        return
    names: dict[str, Callable[[Settings], int]] = {
        "POSTGRES_PORT": lambda s: s.postgres_port,
        "KAFKA_PORT": lambda s: s.kafka_port,
        "KAFKA_CONTROLLER_PORT": lambda s: s.kafka_controller_port,
        "MLFLOW_PORT": lambda s: s.mlflow_port,
        "AIRFLOW_PORT": lambda s: s.airflow_port,
        "STREAMLIT_PORT": lambda s: s.streamlit_port,
        "RELAY_PORT": lambda s: s.relay_port,
    }
    for name, port_of in names.items():
        port = port_of(settings)
        if ports.taken(port):
            remedy = f"stop it, or choose another with FRAUDSTREAM_{name} in .env"
            yield Check(f"Port {port}", False, f"taken by {ports.holder(port)}: {remedy}")
        else:
            yield Check(f"Port {port}", True, "free")
