"""The console script `fraudstream`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from include import __version__
from include.bench import DETECTION, SUITES
from include.cli.arguments import Duration, Speed, Time, bounded
from include.events.strict_json import Reason
from include.models.families import DEFAULT_FAMILY, FAMILIES, FEWEST_TREES, MOST_TREES
from include.settings import Settings, SettingsError, load

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
MOST = 2**31 - 1  # an integer of PostgreSQL
SHOWN_RESTARTS = 5
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Real-time fraud detection on Airflow, Kafka, Spark, PostgreSQL and MLflow."""


def main() -> None:
    """Runs the command; an error that a person can mend is one message, not a traceback."""
    try:
        cli()
    except SettingsError as error:
        raise SystemExit(f"fraudstream: {error}") from None


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _wide_console() -> Console:
    """For tables: a pipe has no width, and addresses must not be cut there."""
    return Console(highlight=False, soft_wrap=True, width=max(120, Console().width))


@cli.command()
def up() -> None:
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
        platform.up(settings, Progress(_console()))
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
    console = _wide_console()
    console.print(table)
    passwords = _short(secrets.folder(settings))
    console.print(f"Passwords: {passwords}/airflow-users.json (Airflow), {passwords}/pgpass (PostgreSQL)")
    console.print("Health: make status    Logs: .venv/bin/fraudstream logs NAME    Stop: make down")


def _short(path: Path) -> str:
    """The path as it is named from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@cli.command()
@click.option("--wipe", is_flag=True, help="Also delete the state folder: data, models, secrets, logs.")
def down(wipe: bool) -> None:
    """Stop everything; streams finish their batch first."""
    from include.platform.down import down as stop
    from include.platform.progress import Progress

    stop(load(), Progress(_console()), wipe=wipe)


@cli.command()
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
    console = _console()
    services = Table("Service", "State", "Address")
    for name, service in result["services"].items():
        services.add_row(name, _coloured(service["state"], "healthy"), service["address"])
    streams = Table("Stream", "State", "Behind by", "Last commit", "What it says")
    for name, stream in result["streams"].items():
        since = stream["seconds_since_last_commit"]
        behind = "" if stream["lag"] is None else f"{stream['lag']:,} records"
        last = "" if since is None else f"{since:,.0f} s ago"
        streams.add_row(name, _coloured(stream["state"], "running"), behind, last, stream["detail"])
    if result["services"]:
        console.print(services)
    else:
        console.print("Services: run in containers, `docker compose ps` shows their health")
    console.print(streams)
    if result["counts"]:
        console.print(
            "   ".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in result["counts"].items())
        )
    champion = result["champion"]
    console.print(
        f"champion: {champion['name']} version {champion['version']}" if champion else "champion: none yet"
    )
    for restart in result["restarts"][-SHOWN_RESTARTS:]:
        console.print(
            f"{restart['at']}: {restart['part']} hung for {restart['silent_seconds']:.0f} s and was restarted"
        )
    for problem in result["problems"]:
        console.print(problem, style="red", markup=False)


def _coloured(state: str, good: str) -> str:
    return f"[{'green' if state == good else 'red'}]{state}[/]"


@cli.command()
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
    table = Table("Check", "", "Found")
    for check, otherwise in (
        *((check, "failed") for check in checks),
        *((check, "advice") for check in advice),
    ):
        table.add_row(check.name, _coloured("good" if check.good else otherwise, "good"), check.message)
    _console().print(table)
    sys.exit(0 if all(check.good for check in checks) else 1)


@cli.command()
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


@cli.command("import")
@click.argument("file")
@click.option("--mapping", required=True, type=FILE, help="YAML file: columns to fields, see docs/import.md.")
@click.option("--labels", type=FILE, help="File of the labels, where they are not in the same rows.")
@click.option(
    "--speed", type=Speed(), default="max", show_default=True, help="Times faster than recorded, or max."
)
@click.option(
    "--label-delay", type=Duration(), default="7d", show_default=True, help="Until a label is known."
)
@click.option("--dry-run", is_flag=True, help="Check every row, show ten before and after, and send nothing.")
@click.option(
    "--skip-bad",
    is_flag=True,
    help="Leave bad rows out and write them to a file; else the first one ends it.",
)
@click.option(
    "--rejected",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for bad rows and their reasons; FILE's name with .rejected.csv here unless given.",
)
def import_(
    file: str, mapping: Path, rejected: Path | None, labels: Path | None, dry_run: bool, **options: Any
) -> None:
    """Publish recorded transactions from FILE in order of event time.

    FILE is a CSV, JSON lines or Parquet file, a folder of parts, a quoted pattern, or - for standard input."""
    from include.broker.kafka import KafkaError
    from include.broker.publish import DeliveryFailed
    from include.cli.terminal import import_progress, import_report, stop_on_signals
    from include.events.mapping import MappingError
    from include.imports import importer, sources

    rejected = rejected or Path(sources.rejected_name(file))
    try:
        with import_progress() as progress, stop_on_signals() as stopping:
            report = importer.run(
                load(),
                file,
                mapping,
                **options,
                labels=labels,
                dry_run=dry_run,
                rejected=rejected,
                stopping=stopping,
                progress=progress,
            )
    except (
        MappingError,
        sources.UnreadableFile,
        importer.BadRow,
        importer.NothingToImport,
        KafkaError,
        DeliveryFailed,
        OSError,
    ) as error:
        raise SystemExit(f"fraudstream import: {error}") from None
    click.echo(import_report(report, dry_run))
    sys.exit(1 if report.stopped else 0)


@cli.command()
@click.option("--from", "start", type=Time(), help="First event time; 30 days before --to unless given.")
@click.option("--to", "end", type=Time(), help="End of the event times, itself left out.")
@click.option(
    "--model",
    type=click.IntRange(1, MOST),
    help="Score the logged features again with this version of the registry.",
)
@click.option("--k", type=click.IntRange(1, MOST), default=100, show_default=True, help="Investigated a day.")
@click.option(
    "--as-of", type=Time(), help="Use only labels known by then; the newest event's time unless given."
)
@JSON
def evaluate(
    start: datetime | None,
    end: datetime | None,
    model: int | None,
    k: int,
    as_of: datetime | None,
    as_json: bool,
) -> None:
    """Measure the stored scores against the labels known by now: precision, recall, time to detection, money."""
    import psycopg

    from include.cli import evaluation_report
    from include.registry.errors import RegistryError
    from include.training import evaluation

    settings = load()
    try:
        result = evaluation.evaluate(settings, start, end, version=model, k=k, as_of=as_of)
    except (evaluation.NothingToEvaluate, RegistryError) as error:
        raise SystemExit(f"fraudstream evaluate: {error}") from None
    except psycopg.OperationalError as error:
        raise SystemExit(f"fraudstream evaluate: {_no_database(error)}") from None
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        _wide_console().print(*evaluation_report.tables(result), sep="\n")


@cli.command()
@click.option(
    "--family",
    type=click.Choice([*FAMILIES]),
    default=DEFAULT_FAMILY,
    show_default=True,
    help="Of the detector.",
)
@click.option(
    "--window-days",
    type=bounded("training_window_days"),
    help="Length of the training window; FRAUDSTREAM_TRAINING_WINDOW_DAYS unless given.",
)
@click.option(
    "--trees", type=click.IntRange(FEWEST_TREES, MOST_TREES), help="The family's own number unless given."
)
@click.option(
    "--alert-rate",
    type=bounded("alert_rate"),
    help="Share of transactions to alert on; FRAUDSTREAM_ALERT_RATE unless given.",
)
@click.option("--as-of", type=Time(), help="End of the window; the newest event's time unless given.")
@JSON
def train(family: str, as_json: bool, **options: Any) -> None:
    """Train a model on the newest transactions; it becomes champion when it is better than the present one."""
    import psycopg

    from include.cli import training_report
    from include.registry.errors import RegistryError
    from include.training.promotion import PromotionRefused
    from include.training.retraining import RetrainingRuns, retrain
    from include.training.split import NotEnoughData

    try:
        result = retrain(load(), family=family, **options)
    except (NotEnoughData, RetrainingRuns, RegistryError, PromotionRefused) as error:
        raise SystemExit(f"fraudstream train: {error}") from None
    except psycopg.OperationalError as error:
        raise SystemExit(f"fraudstream train: {_no_database(error)}") from None
    if as_json:
        click.echo(json.dumps(result.summary(), indent=2))
    else:
        click.echo("\n".join(training_report.lines(result)))


def _no_database(error: Exception) -> str:
    return f"PostgreSQL does not answer: {' '.join(str(error).split())}; is the platform up? See fraudstream status"


@cli.group()
def replay() -> None:
    """Send again what could not be stored."""


@replay.command("dead-letters")
@click.option(
    "--reason",
    type=click.Choice([*map(str, Reason)]),
    metavar="REASON",
    help="Only dead letters of it, see docs/events.md.",
)
@click.option("--limit", type=click.IntRange(1, MOST), help="At most so many.")
@JSON
def replay_dead_letters(reason: str | None, limit: int | None, as_json: bool) -> None:
    """Write dead letters to their topics again, key and value untouched, once what was wrong is mended."""
    import psycopg

    from include.operations import dead_letters

    try:
        written = dead_letters.replay(load(), reason, limit)
    except dead_letters.ReplayFailed as error:
        raise SystemExit(f"fraudstream replay dead-letters: {error}") from None
    except psycopg.OperationalError as error:
        raise SystemExit(f"fraudstream replay dead-letters: {_no_database(error)}") from None
    if as_json:
        click.echo(json.dumps({"written": written, "total": sum(written.values())}))
    elif written:
        for name, count in sorted(written.items()):
            click.echo(f"{count:,} {name} written to their topic again")
        click.echo("The stream stores what is good by now; what is still wrong becomes a new dead letter.")
    else:
        click.echo("No dead letter is open" + (f" with the reason {reason}." if reason else "."))


@cli.command()
@click.option("--accept", is_flag=True, help="Take the stored rows as right from now on.")
def reconcile(accept: bool) -> None:
    """Compare broker, ledger and stored rows for each Kafka partition; exit 1 with a line for what is open."""
    import psycopg

    from include.broker.kafka import KafkaError
    from include.operations import reconcile as books

    try:
        found = books.reconcile(load(), accept=accept)
    except KafkaError as error:
        raise SystemExit(f"fraudstream reconcile: {error}") from None
    except psycopg.OperationalError as error:
        raise SystemExit(f"fraudstream reconcile: {_no_database(error)}") from None
    for difference in found:
        click.echo(difference)
    if not found:
        click.echo("Broker, ledger and rows agree.")
    sys.exit(1 if found and not accept else 0)


@cli.command()
@click.option(
    "--airflow", is_flag=True, help="Hurt the platform with Airflow, not its bare streams; takes longer."
)
@click.option("--events", type=int, help="Events of a round (default: 100,000; with --airflow 20,000).")
@click.option("--kills", type=int, help="Processes to kill in a round (30; 8).")
@click.option("--pauses", type=int, help="Pauses in a round (3; 11).")
@click.option("--cuts", type=int, help="Cut connections in a round (3; 4).")
@click.option("--seconds", type=int, help="Of a round; faults that do not fit are left out (600; 2,700).")
@click.option(
    "--kinds", metavar="NAME,...", help="Only these kinds or families of faults, see docs/reliability.md."
)
@click.option("--seed", type=int, help="Of the first round; each further one has the next (1).")
@click.option("--rounds", default=1, show_default=True, help="Rounds to run now.")
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Add the rounds to the record in FILE, which is made when missing.",
)
@click.option("--keep", is_flag=True, help="Keep the folder with data and logs also when nothing is wrong.")
@JSON
def faults(
    airflow: bool,
    kinds: str | None,
    rounds: int,
    resume: Path | None,
    keep: bool,
    as_json: bool,
    **sizes: Any,
) -> None:
    """Kill, pause and cut a separate copy of the platform, then count: nothing lost or twice; exit 1 otherwise."""
    from include.cli.terminal import end_on_signals
    from include.faults import command
    from include.faults.stack import CampaignFailed

    console = Console(highlight=False, soft_wrap=True, stderr=as_json)

    def say(text: str) -> None:
        console.print(text, markup=False)

    plan = command.AIRFLOW if airflow else command.BARE
    plan = replace(plan, **{name: size for name, size in sizes.items() if size is not None})
    try:
        plan = replace(plan, kinds=command.chosen(kinds, plan.kinds))
        with end_on_signals():
            total = command.campaign(plan, rounds, resume, keep, say)
    except (command.UnknownKind, CampaignFailed) as error:
        raise SystemExit(f"fraudstream faults: {error}") from None
    if as_json:
        click.echo(json.dumps(total, indent=2))
    else:
        command.show(total, console)
    sys.exit(0 if total["good"] else 1)


@cli.command()
@click.argument(
    "suite",
    type=click.Choice([*SUITES, DETECTION, "all"]),
    default="all",
)
@JSON
def bench(suite: str, as_json: bool) -> None:
    """Measure our ways beside the usual ones; detection (minutes, not in all) compares what detectors find."""
    from include.bench import command, detection
    from include.bench.compare import BenchmarkFailed
    from include.cli.terminal import end_on_signals
    from include.platform.jars import JarsError
    from include.platform.temporary import ServerFailed

    chosen = SUITES if suite == "all" else (suite,)

    def begins(name: str) -> None:
        click.echo(f"measuring {name} …", err=True)

    try:
        with end_on_signals():
            if suite == DETECTION:
                result, show = detection.compare_detectors(starting=begins), detection.tables
            else:
                result, show = command.measure(chosen, begins), command.tables
    except (ServerFailed, BenchmarkFailed, JarsError) as error:
        raise SystemExit(f"fraudstream bench: {error}") from None
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        _wide_console().print(*show(result), sep="\n")
