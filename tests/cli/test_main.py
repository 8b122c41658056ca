"""Each command says what it does, gives valid JSON where it promises, and one message for what one can mend."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import click
import psycopg
import pytest
from click.testing import CliRunner

from include.cli import data, main, models, platform
from include.cli.arguments import Duration, Speed, Time
from include.settings import Settings, load
from tests import sample_data


def commands(group: click.Group = main.cli, path: tuple[str, ...] = ()) -> dict[str, click.Command]:
    """Every command by its full name."""
    by_name = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            by_name |= commands(command, (*path, name))
        else:
            by_name[" ".join((*path, name))] = command
    return by_name


COMMANDS = commands()


@pytest.fixture
def use(monkeypatch):
    """Runs a command with given settings."""

    def run(settings: Settings, *arguments: str):
        for module in (data, models, platform):
            monkeypatch.setattr(module, "load", lambda: settings)
        return CliRunner().invoke(main.cli, arguments)

    return run


@pytest.fixture
def empty(tmp_path) -> Settings:
    """Settings of a platform that does not run."""
    nowhere = {"postgres_port": 1, "kafka_port": 1, "mlflow_port": 1, "airflow_port": 1, "streamlit_port": 1}
    return Settings(_env_file=None, home=tmp_path, **nowhere)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_a_description(name):
    result = CliRunner().invoke(main.cli, [*name.split(), "--help"])
    assert result.exit_code == 0 and "Usage: " in result.output
    assert COMMANDS[name].help and COMMANDS[name].help.endswith(".")
    options = [option for option in COMMANDS[name].params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_the_list_of_commands_has_a_line_for_each():
    output = CliRunner().invoke(main.cli, ["--help"]).output
    assert all(f"  {name.split()[0]} " in output for name in COMMANDS)


@pytest.mark.services
@pytest.mark.parametrize(
    "arguments",
    [("status",), ("evaluate",), ("evaluate", "--k", "5"), ("replay", "dead-letters")],
    ids=" ".join,
)
def test_json_is_one_object(use, clean_postgres, kafka, arguments):
    sample_data.fill(clean_postgres, transactions=3_000, days=10)
    # The sample's dead letters lie in topics that this broker does not have.
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as connection:
        connection.execute("update shop.dead_letters set replayed_at = now()")
    result = use(clean_postgres, *arguments, "--json")
    assert isinstance(json.loads(result.stdout), dict)
    assert result.exit_code == (1 if arguments == ("status",) else 0)


def test_json_is_tested_for_each_command_that_has_it():
    elsewhere = {"bench", "diff", "faults", "train", "model list"}
    having = {
        name
        for name, command in COMMANDS.items()
        if any("--json" in option.opts for option in command.params)
    }
    assert having - elsewhere == {"status", "evaluate", "replay dead-letters"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("up",),
        ("down",),
        ("status",),
        ("doctor",),
        ("logs",),
        ("evaluate",),
        ("train",),
        ("replay", "dead-letters"),
        ("import",),
    ],
    ids=" ".join,
)
def test_bad_settings_are_one_message_that_names_the_variables(monkeypatch, tmp_path, arguments):
    if arguments == ("import",):
        (tmp_path / "file").write_text("")
        arguments = ("import", str(tmp_path / "file"), "--mapping", str(tmp_path / "file"))
    monkeypatch.setenv("FRAUDSTREAM_KAFKA_PORT", "ninety")
    monkeypatch.setenv("FRAUDSTREAM_ALERT_RATE", "7")
    monkeypatch.setattr(sys, "argv", ["fraudstream", *arguments])
    load.cache_clear()
    try:
        with pytest.raises(SystemExit) as stopped:
            main.main()
    finally:
        load.cache_clear()
    message = stopped.value.code
    assert message.startswith("fraudstream: unusable settings") and message.count("FRAUDSTREAM_") == 2
    assert "FRAUDSTREAM_KAFKA_PORT" in message and "FRAUDSTREAM_ALERT_RATE" in message


def test_the_console_script_prints_no_traceback(monkeypatch):
    script = f"{sys.prefix}/bin/fraudstream"
    monkeypatch.setenv("FRAUDSTREAM_KAFKA_PORT", "ninety")
    done = subprocess.run([script, "logs"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("fraudstream: unusable settings") and "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("evaluate",), ("train",), ("replay", "dead-letters")], ids=" ".join)
def test_without_a_database_a_command_says_so(use, empty, arguments):
    result = use(empty, *arguments)
    assert result.exit_code == 1
    assert "PostgreSQL does not answer" in str(result.exception) and "fraudstream status" in str(
        result.exception
    )


@pytest.mark.services
def test_evaluate_says_when_there_is_nothing(use, clean_postgres):
    result = use(clean_postgres, "evaluate")
    assert result.exit_code == 1
    assert str(result.exception).startswith(
        "fraudstream evaluate: shop.transactions is empty: start the streams"
    )


@pytest.mark.services
def test_evaluate_shows_tables_for_a_person(use, clean_postgres):
    sample_data.fill(clean_postgres, transactions=3_000, days=10)
    now = datetime.now(UTC)
    options = ["--from", f"{now - timedelta(days=9):%Y-%m-%d}", "--to", f"{now - timedelta(days=5):%Y-%m-%d}"]
    result = use(clean_postgres, "evaluate", *options, "--k", "7")
    assert result.exit_code == 0
    for words in (
        "average precision",
        "precision of the 7 highest transactions a day",
        "lost before detection",
    ):
        assert words in result.output
    assert (
        f"from {now - timedelta(days=9):%Y-%m-%d} 00:00 to {now - timedelta(days=5):%Y-%m-%d} 00:00"
        in result.output
    )
    days = [f"{now - timedelta(days=ago):%Y-%m-%d}" for ago in (9, 8, 7, 6)]
    assert all(f"│ {day} │" in result.output for day in days)


@pytest.mark.services
def test_replay_says_when_no_dead_letter_is_open(use, clean_postgres, kafka):
    result = use(clean_postgres, "replay", "dead-letters", "--reason", "blank")
    assert result.output == "No dead letter is open with the reason blank.\n"


def test_replay_knows_the_reasons(use, empty):
    result = use(empty, "replay", "dead-letters", "--reason", "bad_mood")
    assert result.exit_code == 2 and "'bad_mood' is not one of 'tombstone'" in result.output


def test_import_checks_a_file_and_says_what_to_mend(use, empty, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shop, mapping = tmp_path / "shop.csv", tmp_path / "mapping.yaml"
    shop.write_text("id,user,at,sum\nt1,u1,2026-10-01,5\nt2,u1,2026-10-02,1.2345\n")
    mapping.write_text("fields: {transaction_id: id, user_id: user, timestamp: at, amount: sum}")
    arguments = ("import", str(shop), "--mapping", str(mapping), "--dry-run")
    assert "line 3: amount: column 'sum': more than 2 decimals" in str(use(empty, *arguments).exception)
    result = use(empty, *arguments, "--skip-bad")
    assert result.exit_code == 0
    assert (
        result.output.startswith("1 transactions from 2026-10-01 00:00:00") and "1 bad rows" in result.output
    )
    assert "all in shop.rejected.csv" in result.output and "becomes {" in result.output
    assert (tmp_path / "shop.rejected.csv").read_text().endswith('"t2,u1,2026-10-02,1.2345"\n')
    shop.write_text("id,user,at,sum\nt2,u1,2026-10-02,x\n")
    nothing = use(empty, *arguments, "--skip-bad")
    assert nothing.exit_code == 1 and "no transaction among 1 rows; 1 bad" in str(nothing.exception)
    mapping.write_text("fields: {transaction_id: id}")
    assert "object missing required field `user_id`" in str(use(empty, *arguments).exception)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Duration(), "90s", timedelta(seconds=90)),
        (Duration(), "1.5h", timedelta(minutes=90)),
        (Duration(), "0d", timedelta(0)),
        (Duration(), "3650d", timedelta(days=3650)),
        (Time(), "2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        (Time(), "2026-11-24T08:00+02:00", datetime(2026, 11, 24, 6, tzinfo=UTC)),
        (Speed(), "max", None),
        (Speed(), "3600", 3600.0),
    ],
)
def test_arguments(kind, text, value):
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((Duration(), value) for value in ("7", "d", "-1d", "3651d", "1w", "1e3s")),
        (Time(), "noon"),
        (Time(), ""),
        (Time(), "0001-01-01T00:00+14:00"),
        (Time(), "9999-12-31T23:59-14:00"),
    ]
    + [(Speed(), value) for value in ("0", "-1", "fast", "nan", "inf")],
)
def test_arguments_that_cannot_be_read_are_refused(kind, text):
    with pytest.raises(click.BadParameter, match="no |neither"):
        kind.convert(text, None, None)
