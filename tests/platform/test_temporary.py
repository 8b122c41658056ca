"""What is set for somebody's platform reaches no test, benchmark or fault campaign, nor what they start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from include.bench.services import services
from include.faults.events import Events
from include.faults.stack import BareStack
from include.platform import temporary
from include.platform.temporary import ServerFailed, environment, running, temporary_settings
from include.settings import PREFIX, PROJECT_ROOT, IsolatedSettings, Settings

POISON = {f"{PREFIX}{name.upper()}": "poison" for name in Settings.model_fields}
AS_A_JOB = """
import sys
from include.settings import Settings, load
Settings.model_config["env_file"] = sys.argv[1]
print(load().model_dump_json())
"""


@pytest.fixture(autouse=True)
def poison(monkeypatch, tmp_path):
    """Every setting is exported, and stands in `.env`, with a value that nothing can use."""
    for name, value in POISON.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "poison.env"
    file.write_text("\n".join(f"{name}={value}" for name, value in POISON.items()))
    monkeypatch.setitem(Settings.model_config, "env_file", file)
    return file


def changed(settings: Settings) -> set[str]:
    """The settings that are not the defaults of their home and ports."""
    own = {name: getattr(settings, name) for name in ("home", *temporary.PORTS)}
    default = IsolatedSettings(**own).model_dump()
    return {name for name, value in settings.model_dump().items() if value != default[name]}


def as_a_job(variables: Mapping[str, str], poison) -> dict:
    """The settings that a job with this environment loads."""
    command = [sys.executable, "-c", AS_A_JOB, str(poison)]
    done = subprocess.run(command, env=dict(variables), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_temporary_settings_are_the_defaults_with_free_ports_and_what_is_asked_for(tmp_path):
    settings = temporary_settings(tmp_path, seed=3)
    assert changed(settings) == {"seed"} and settings.home == tmp_path
    ports = {getattr(settings, name) for name in temporary.PORTS}
    assert len(ports) == len(temporary.PORTS)
    assert settings.kafka_bootstrap_servers == f"127.0.0.1:{settings.kafka_port}"


def test_a_job_has_exactly_the_settings_that_it_was_given(tmp_path, poison):
    settings = temporary_settings(tmp_path, kafka_sasl_password="s", seed=3)
    variables = environment(settings)
    assert {name: variables[name] for name in POISON} == settings.as_environment()
    assert as_a_job(variables, poison) == json.loads(settings.model_dump_json())


def test_a_campaign_and_its_jobs_read_nothing_from_outside(tmp_path, poison):
    stack = BareStack(tmp_path, Events(1, datetime.now(UTC)), 10)
    assert changed(stack.settings) == set()
    for child in (stack.postgres, stack.kafka, stack.producer, *stack.streams.values()):
        settings = as_a_job(child._environment(), poison)
        assert settings["transactions_topic"] == "transactions-data"
        assert settings["kafka_bootstrap_servers"] == stack.settings.kafka_bootstrap_servers


@pytest.mark.services
def test_a_benchmark_reads_nothing_from_outside():
    with services() as settings:
        assert changed(settings) == set()


def test_the_tests_read_nothing_from_outside(poison):
    code = "import tests.conftest; from include.settings import Settings; print(Settings().model_dump_json())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert "poison" not in done.stdout


def test_a_server_that_ends_at_once_is_shown_with_its_log(tmp_path):
    command = [sys.executable, "-c", "print('no disk'); raise SystemExit(1)"]
    with (
        pytest.raises(ServerFailed, match=r"(?s)broken did not start:.*no disk"),
        running("broken", temporary_settings(tmp_path), command, lambda: False),
    ):
        pass
