"""Commands that bring events in, send them again and compare what is stored."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import click

from include.cli.arguments import JSON, MOST, Duration, Speed
from include.cli.output import no_database
from include.events.strict_json import Reason
from include.settings import load

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("import")
@click.argument("file", required=False)
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
    file: str | None,
    mapping: Path,
    rejected: Path | None,
    labels: Path | None,
    dry_run: bool,
    speed: float | None,
    **options: Any,
) -> None:
    """Publish recorded transactions from FILE in order of event time.

    FILE is a CSV, JSON lines or Parquet file, a folder of parts, a quoted pattern, or - for standard input. With
    --labels and without FILE the labels of payments that are stored already are published."""
    import psycopg

    from include.broker.kafka import KafkaError
    from include.broker.publish import DeliveryFailed
    from include.cli.terminal import import_progress, import_report, stop_on_signals
    from include.events.mapping import MappingError
    from include.imports import importer, sources

    if file is None and labels is None:
        raise click.UsageError("Missing argument 'FILE', or --labels for payments that are stored already.")
    options["rejected"] = rejected or Path(sources.rejected_name(file or str(labels)))
    try:
        with import_progress() as progress, stop_on_signals() as stopping:
            options |= {"dry_run": dry_run, "stopping": stopping, "progress": progress}
            if file is not None:
                report = importer.import_events(load(), file, mapping, labels=labels, speed=speed, **options)
            else:
                report = importer.import_labels(load(), cast(Path, labels), mapping, **options)
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
    except psycopg.OperationalError as error:
        raise SystemExit(f"fraudstream import: {no_database(error)}") from None
    click.echo(import_report(report, dry_run))
    sys.exit(1 if report.stopped else 0)


@click.group()
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
    """Write dead letters to their topics again, key and value untouched, once their cause is fixed."""
    import psycopg

    from include.operations import dead_letters

    try:
        written = dead_letters.replay(load(), reason, limit)
    except dead_letters.ReplayFailed as error:
        raise SystemExit(f"fraudstream replay dead-letters: {error}") from None
    except psycopg.OperationalError as error:
        raise SystemExit(f"fraudstream replay dead-letters: {no_database(error)}") from None
    if as_json:
        click.echo(json.dumps({"written": written, "total": sum(written.values())}))
    elif written:
        for name, count in sorted(written.items()):
            click.echo(f"{count:,} {name} written to their topic again")
        click.echo("The stream stores what is good by now; what is still wrong becomes a new dead letter.")
    else:
        click.echo("No dead letter is open" + (f" with the reason {reason}." if reason else "."))


@click.command()
@click.option("--accept", is_flag=True, help="Take the stored rows as right from now on.")
def reconcile(accept: bool) -> None:
    """Compare broker, ledger and stored rows for each Kafka partition; exit 1 with a line for what is open."""
    import psycopg

    from include.broker.kafka import KafkaError
    from include.operations import reconcile as books

    try:
        open_ranges = books.reconcile(load(), accept=accept)
    except KafkaError as error:
        raise SystemExit(f"fraudstream reconcile: {error}") from None
    except psycopg.OperationalError as error:
        raise SystemExit(f"fraudstream reconcile: {no_database(error)}") from None
    for difference in open_ranges:
        click.echo(difference)
    if not open_ranges:
        click.echo("Broker, ledger and rows agree.")
    sys.exit(1 if open_ranges and not accept else 0)
