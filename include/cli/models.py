"""Commands that train a model and measure what models find."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click

from include.cli.arguments import JSON, MOST, Time, bounded
from include.cli.output import no_database, wide_console
from include.models.families import AUTO, CHOICES, FEWEST_TREES, MOST_TREES
from include.settings import load


@click.command()
@click.option(
    "--family",
    type=click.Choice(CHOICES),
    default=AUTO,
    show_default=True,
    help="Of the detector; auto trains all that the known labels allow and takes the best on later time.",
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
        raise SystemExit(f"fraudstream train: {no_database(error)}") from None
    if as_json:
        click.echo(json.dumps(result.summary(), indent=2))
    else:
        click.echo("\n".join(training_report.lines(result)))


@click.command()
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
        raise SystemExit(f"fraudstream evaluate: {no_database(error)}") from None
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        wide_console().print(*evaluation_report.tables(result), sep="\n")
