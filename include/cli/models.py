"""Commands that train a model, measure what models find, and say which one scores."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from include.cli.arguments import JSON, MOST, Time, bounded
from include.cli.output import no_database, wide_console
from include.models.families import AUTO, CHOICES, FEWEST_TREES, MOST_TREES
from include.settings import load

if TYPE_CHECKING:
    from include.registry.promotions import Promotion
    from include.registry.versions import ModelVersion

SWITCH_SECONDS = 10  # that loading a champion takes at most, beside the pause between two questions for it


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
    help="A fixed share of transactions to alert on, whatever it brings; FRAUDSTREAM_ALERT_RATE unless given.",
)
@click.option(
    "--alerts-per-day",
    type=bounded("alerts_per_day"),
    help="Alerts that the team can read in a day; FRAUDSTREAM_ALERTS_PER_DAY unless given.",
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
        result = retrain(load(), family=family, actor=_actor("train"), **options)
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


@click.group()
def model() -> None:
    """Show which model scores, make another one champion, or take the last change back."""


@model.command("list")
@click.option(
    "-n", "--lines", type=click.IntRange(1, MOST), default=10, show_default=True, help="Of the ledger."
)
@JSON
def list_(lines: int, as_json: bool) -> None:
    """Show the versions in the registry, and who or what made which one champion."""
    import psycopg

    from include.registry import aliases, promotions

    settings = load()
    with _errors("list"):
        aliases.notice(settings, "trainer")
        versions = aliases.versions(settings, "trainer")
        with psycopg.connect(settings.conninfo("trainer")) as connection:
            ledger = promotions.read(connection, lines)
    if as_json:
        listed = {"versions": [_listed(known) for known in versions], "promotions": [*map(asdict, ledger)]}
        click.echo(json.dumps(listed, indent=2, default=str))
    else:
        _print_models(versions, ledger)


@model.command()
@click.argument("version", type=click.IntRange(1, MOST))
@click.option("--reason", required=True, help="Why, for the ledger of promotions.")
@click.option(
    "--despite-parity", is_flag=True, help="Also while features are found to differ; for an emergency."
)
def promote(version: int, reason: str, despite_parity: bool) -> None:
    """Make VERSION the champion, once its bytes are verified and the parity gate is open."""
    from include.registry.promotions import Cause
    from include.training import promotion

    with _errors("promote"):
        cause = Cause(_actor("model promote"), reason, mode="human")
        promotion.promote(load(), version, cause=cause, despite_parity=despite_parity)
    click.echo(f"Version {version} is champion; the stream scores with it within {_switch_seconds():.0f} s")


@model.command()
@click.option("--reason", required=True, help="Why, for the ledger of promotions.")
def rollback(reason: str) -> None:
    """Make the previous champion the champion again."""
    from include.training import promotion

    with _errors("rollback"):
        version = promotion.roll_back(load(), _actor("model rollback"), reason)
    click.echo(
        f"Version {version} is champion again; the stream scores with it within {_switch_seconds():.0f} s"
    )


@contextmanager
def _errors(command: str) -> Iterator[None]:
    """What may be wrong with registry, gate or database, as one line."""
    import psycopg

    from include.registry.errors import RegistryError
    from include.training.promotion import PromotionRefused

    try:
        yield
    except (RegistryError, PromotionRefused) as error:
        raise SystemExit(f"fraudstream model {command}: {error}") from None
    except psycopg.OperationalError as error:
        raise SystemExit(f"fraudstream model {command}: {no_database(error)}") from None


def _actor(command: str) -> str:
    return f"{getpass.getuser()} with fraudstream {command}"


def _switch_seconds() -> float:
    return load().champion_poll_seconds + SWITCH_SECONDS


def _listed(known: ModelVersion) -> dict[str, Any]:
    shown = asdict(known)
    shown["metrics"] = {name: value for name, value in known.metrics.items() if name != "per_day"}
    return shown


def _print_models(versions: list[ModelVersion], ledger: list[Promotion]) -> None:
    output = wide_console()
    table = Table("Version", "Alias", "Family", "Trained to", "Threshold", "Average precision", "Registered")
    for known in versions:
        measured = known.metrics.get("average_precision")
        table.add_row(
            str(known.version),
            ", ".join(known.aliases),
            known.family,
            f"{known.trained_to:%Y-%m-%d %H:%M}",
            f"{known.threshold:.4f}",
            "-" if measured is None else f"{measured:.3f}",
            f"{known.created_at:%Y-%m-%d %H:%M}",
        )
    output.print(table)
    for row in ledger:
        state = {True: "", False: " (not done)", None: " (interrupted)"}[row.done]
        output.print(f"{row.kind}{state}: {row}; parity {row.parity}", markup=False)
