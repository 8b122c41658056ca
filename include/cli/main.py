"""The console script `fraudstream`, put together from the groups of commands beside it."""

from __future__ import annotations

import click

from include import __version__
from include.cli import bench, data, diff, faults, mapping, models, platform
from include.settings import SettingsError

COMMANDS: tuple[click.Command, ...] = (
    *(platform.up, platform.down, platform.status, platform.doctor, platform.logs),
    *(mapping.mapping, data.import_, data.replay, data.reconcile),
    *(models.train, models.evaluate, models.model, diff.diff),
    faults.faults,
    bench.bench,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Real-time fraud detection on Airflow, Kafka, Spark, PostgreSQL and MLflow."""


for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Runs the command; an error that a person can fix is one message, not a traceback."""
    try:
        cli()
    except SettingsError as error:
        raise SystemExit(f"fraudstream: {error}") from None
