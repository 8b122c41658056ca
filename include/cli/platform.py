"""Commands that start, stop and look at the platform."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from include.cli.arguments import JSON
from include.cli.output import coloured, console, wide_console
from include.settings import Settings, load

SHOWN_RESTARTS = 5


@click.command()
@click.option(
    "--demo/--no-demo", default=True, help="Publish simulated transactions, or leave all data to you."
)
def up(demo: bool) -> None:
    """Start the whole platform on this machine and wait for the first scored transaction."""
    import httpx
    import psycopg

    from include.broker.kafka import KafkaError
    from include.operations.housekeeping import StillLocked
    from include.platform import up as platform
    from include.platform.airflow import AirflowError
    from include.platform.jars import JarsError
    from include.platform.postgres import MigrationRefused
    from include.platform.progress import Progress
    from include.platform.supervisor import SupervisorError

    settings = load()
    try:
        platform.up(settings, Progress(console()), demo)
    except (
        platform.NotReady,
        SupervisorError,
        AirflowError,
        JarsError,
        KafkaError,
        MigrationRefused,
        StillLocked,
        httpx.HTTPError,  # what was ready a moment ago went away again
        psycopg.Error,
    ) as error:
        raise SystemExit(f"fraudstream up: {error}") from None
    _welcome(settings)
    if not demo:
        _next_commands()


def _next_commands() -> None:
    """How data of one's own comes in."""
    from include.training.first_champion import ENOUGH

    output = console()
    output.print("Your data:  .venv/bin/fraudstream mapping suggest FILE --output mapping.yaml")
    output.print("            .venv/bin/fraudstream import FILE --mapping mapping.yaml")
    output.print(
        f"The first model is trained by itself once {ENOUGH:,} transactions are stored: make status counts them"
    )


def _welcome(settings: Settings) -> None:
    """Every address, how to log in, what to click next, how to stop."""
    from include.platform import secrets

    table = Table(
        "What", "Address", "Log in", "Click next", title="fraudstream is running", title_justify="left"
    )
    for row in (
        ("Airflow", str(settings.airflow_public_url), "admin, password below", "Dags: start, stop, retrain"),
        (
            "Streamlit",
            str(settings.streamlit_public_url),
            "open on this machine",
            "Model performance, Alerts",
        ),
        ("MLflow", str(settings.mlflow_public_url), "open on this machine", "Models: fraud-detector"),
        ("PostgreSQL", f"127.0.0.1:{settings.postgres_port}", "owner, password below", "schema shop"),
        (
            "Kafka",
            settings.kafka_bootstrap_servers,
            "open on this machine",
            f"topic {settings.transactions_topic}",
        ),
    ):
        table.add_row(*row)
    output = wide_console()
    output.print(table)
    passwords = _short(secrets.folder(settings))
    output.print(f"Passwords: {passwords}/airflow-users.json (Airflow), {passwords}/pgpass (PostgreSQL)")
    output.print("Health: make status    Logs: .venv/bin/fraudstream logs NAME    Stop: make down")


def _short(path: Path) -> str:
    """The path as it is named from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@click.command()
@click.option("--wipe", is_flag=True, help="Also delete the state folder: data, models, secrets, logs.")
def down(wipe: bool) -> None:
    """Stop everything; streams finish their batch first."""
    from include.platform.down import down as stop
    from include.platform.progress import Progress

    stop(load(), Progress(console()), wipe=wipe)


@click.command()
@JSON
def status(as_json: bool) -> None:
    """Show services, streams, counts and the champion; exit 1 when something is not healthy."""
    from include.platform import status as platform

    result = platform.status(load(), books=True)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        _print_status(result)
    sys.exit(0 if platform.healthy(result) else 1)


def _print_status(result: dict[str, Any]) -> None:
    output = console()
    services = Table("Service", "State", "Address")
    for name, service in result["services"].items():
        services.add_row(name, coloured(service["state"], "healthy"), service["address"])
    streams = Table("Stream", "State", "Behind by", "Last commit", "Detail")
    for name, stream in result["streams"].items():
        since = stream["seconds_since_last_commit"]
        behind = "" if stream["lag"] is None else f"{stream['lag']:,} records"
        last = "" if since is None else f"{since:,.0f} s ago"
        streams.add_row(name, coloured(stream["state"], "running"), behind, last, stream["detail"])
    if result["services"]:
        output.print(services)
    else:
        output.print("Services: run in containers, `docker compose ps` shows their health")
    output.print(streams)
    if result["counts"]:
        output.print(
            "   ".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in result["counts"].items())
        )
    champion = result["champion"]
    if champion:
        output.print(f"champion: {champion['name']} version {champion['version']}")
        for line in _decisions(champion):
            output.print(line)
    elif state := result["first_champion"]:
        output.print(
            f"champion: none yet, {state['stored']:,} of {state['needed']:,} transactions to train it"
        )
    else:
        output.print("champion: none yet")
    for restart in result["restarts"][-SHOWN_RESTARTS:]:
        output.print(
            f"{restart['at']}: {restart['part']} did not respond for {restart['silent_seconds']:.0f} s "
            "and was restarted"
        )
    for problem in result["problems"]:
        output.print(problem, style="red", markup=False)


def _decisions(champion: dict[str, Any]) -> Iterator[str]:
    """From which scores on the champion decides, what was expected of it, and the newest day's alerts."""
    if champion["threshold"] is None:
        return
    block = champion["block_threshold"]
    line = f"alerts from a score of {champion['threshold']:.4f} on"
    if block is not None:
        line += f", payments to decline from {block:.4f} on"
    if rule := champion["decision_rule"]:
        money = rule["expected_money_a_day"]
        line += f"; expected a day: {rule['expected_alerts_a_day']:,.0f} alerts"
        line += "" if money is None else f" worth {money:,.0f}"
        line += f"; the team can read {rule['alerts_per_day']:,}"
    yield line
    if day := champion["alerts_today"]:
        yield (
            f"alerts of {day['day']}: {day['alerts']:,}, {day['blocks']:,} of them to decline, "
            f"{day['held_back']:,} held back"
        )


@click.command()
@click.option(
    "--broker-time", is_flag=True, help="Set topics whose records carry the producer's time to the broker's."
)
def doctor(broker_time: bool) -> None:
    """Check Python, Java, memory, disk, ports and the topics' clock; each failure says what to do."""
    from include.broker import kafka
    from include.platform.doctor import advise, examine

    settings = load()
    if broker_time:
        try:
            kafka.use_broker_time(settings, kafka.topics_with_producer_time(settings))
        except kafka.KafkaError as error:
            raise SystemExit(f"fraudstream doctor: {error}") from None
    checks, advice = examine(settings), advise(settings)
    table = Table("Check", "", "Result")
    for check, otherwise in (
        *((check, "failed") for check in checks),
        *((check, "advice") for check in advice),
    ):
        table.add_row(check.name, coloured("good" if check.good else otherwise, "good"), check.message)
    console().print(table)
    sys.exit(0 if all(check.good for check in checks) else 1)


@click.command()
@click.argument("name", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on printing as the log grows.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many of the last lines.")
def logs(name: str | None, follow: bool, lines: int) -> None:
    """Print the log of a service or of a DAG's newest task; without NAME, list the names."""
    from include.platform.logs import find, names

    settings = load()
    path = find(settings, name) if name else None
    if path is None:
        known = ", ".join(names(settings)) or "none yet"
        raise SystemExit(
            f"fraudstream logs: {'no log of ' + name if name else 'name a log'}; there are: {known}"
        )
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), str(path)]
    sys.exit(subprocess.run(command, check=False).returncode)
