"""Each finding of the doctor names what to do."""

import socket

import pytest

from include.platform import doctor
from include.platform.temporary import temporary_settings


@pytest.fixture
def settings(tmp_path):
    return temporary_settings(tmp_path / "home")


def test_this_machine_can_run_the_platform(settings):
    assert [check for check in doctor.examine(settings) if not check.good] == []


def test_a_taken_port_is_named_with_its_holder_and_its_setting(settings):
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.mlflow_port))
        other.listen()
        (failed,) = [check for check in doctor.examine(settings) if not check.good]
    assert failed.name == f"Port {settings.mlflow_port}"
    assert "FRAUDSTREAM_MLFLOW_PORT" in failed.message
    assert "process" in failed.message


def test_a_state_folder_that_cannot_be_made_is_named(settings, tmp_path):
    (tmp_path / "file").touch()
    unusable = settings.model_copy(update={"home": tmp_path / "file" / "home"})
    (failed,) = [check for check in doctor.examine(unusable) if not check.good]
    assert "FRAUDSTREAM_HOME" in failed.message


def test_missing_java_is_named_with_what_to_install(settings, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    (failed,) = [check for check in doctor.examine(settings) if not check.good]
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
