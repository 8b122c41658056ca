"""Each finding of the doctor names what to do."""

import re
import socket
import uuid

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient, NewTopic

from include.broker.kafka import client_config
from include.cli import main, platform
from include.platform import doctor
from include.platform.temporary import temporary_settings
from include.settings import Settings
from tests.waiting import PATIENCE


@pytest.fixture
def machine(tmp_path):
    return temporary_settings(tmp_path / "home")


@pytest.fixture
def topics_of_others(kafka) -> Settings:
    """Settings with two topics that somebody made before us, whose records carry their producers' time."""
    names = {f"{topic}_topic": f"{topic}-{uuid.uuid4().hex[:8]}" for topic in ("transactions", "labels")}
    admin = AdminClient(client_config(kafka))
    for future in admin.create_topics([NewTopic(name, 1) for name in names.values()]).values():
        future.result(PATIENCE)
    return kafka.model_copy(update=names)


@pytest.mark.services
def test_topics_with_their_producers_time_are_named_with_a_command_that_changes_them(
    topics_of_others, monkeypatch
):
    monkeypatch.setattr(platform, "load", lambda: topics_of_others)

    def doctor(*options: str) -> str:
        """What the command prints, its table's cells in one line."""
        printed = CliRunner().invoke(main.cli, ["doctor", *options]).output
        return " ".join(re.sub("[│┃]", " ", printed).split())

    shown = doctor()
    topics = f"{topics_of_others.transactions_topic}, {topics_of_others.labels_topic}: the producer's clock"
    assert "advice" in shown and topics in shown
    changed = doctor(re.search(r"`fraudstream doctor (.*?)`", shown)[1])
    assert "the broker's clock" in changed and "advice" not in changed


def test_without_a_broker_there_is_no_advice(machine):
    assert doctor.advise(machine) == []


def test_this_machine_can_run_the_platform(machine):
    assert [check for check in doctor.examine(machine) if not check.good] == []


def test_a_taken_port_is_named_with_its_holder_and_its_setting(machine):
    with socket.socket() as other:
        other.bind(("127.0.0.1", machine.mlflow_port))
        other.listen()
        (failed,) = [check for check in doctor.examine(machine) if not check.good]
    assert failed.name == f"Port {machine.mlflow_port}"
    assert "FRAUDSTREAM_MLFLOW_PORT" in failed.message
    assert "process" in failed.message


def test_a_state_folder_that_cannot_be_made_is_named(machine, tmp_path):
    (tmp_path / "file").touch()
    unusable = machine.model_copy(update={"home": tmp_path / "file" / "home"})
    (failed,) = [check for check in doctor.examine(unusable) if not check.good]
    assert "FRAUDSTREAM_HOME" in failed.message


def test_missing_java_is_named_with_what_to_install(machine, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    (failed,) = [check for check in doctor.examine(machine) if not check.good]
    assert failed.name == "Java"
    assert "openjdk-17" in failed.message


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', (17, 0, 15)),
        ('openjdk version "21" 2023-09-19', (21,)),
        ('java version "1.8.0_402"', (1, 8, 0)),
        ("command not understood", None),
    ],
)
def test_reads_the_version_of_java(printed, version):
    assert doctor.parse_java_version(printed) == version
