"""The command that compares a candidate's decisions with those that were made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click
from rich.table import Table

from include.cli.arguments import JSON, MOST, Time
from include.cli.output import no_database, wide_console
from include.settings import load

if TYPE_CHECKING:
    from include.training.decision_diff import DecisionDiff, Example, Part


class OffsetRange(click.ParamType[tuple[int, int, int]]):
    """`0:100-250`: partition 0, from offset 100 up to 249."""

    name = "partition:first-end"

    def convert(
        self, value: str | tuple[int, int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,9}):(\d{1,18})-(\d{1,18})", value)
        if not match or int(match[2]) >= int(match[3]):
            self.fail(f"{value!r} is no range of offsets such as 0:100-250", param, ctx)
        return int(match[1]), int(match[2]), int(match[3])


@click.command()
@click.option(
    "--model", type=click.IntRange(1, MOST), help="Version to compare; the challenger unless given."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Another threshold for it; without --model that of the champion is moved.",
)
@click.option("--from", "start", type=Time(), help="First event time; 7 days before --to unless given.")
@click.option("--to", "end", type=Time(), help="End of the event times, itself left out.")
@click.option(
    "--offsets", type=OffsetRange(), multiple=True, help="Only these, as 0:100-250; may be repeated."
)
@click.option(
    "--as-of", type=Time(), help="Use only labels known by then; the newest event's time unless given."
)
@JSON
def diff(
    model: int | None,
    threshold: float | None,
    start: datetime | None,
    end: datetime | None,
    offsets: tuple[tuple[int, int, int], ...],
    as_of: datetime | None,
    as_json: bool,
) -> None:
    """Compare what a version would decide with what was decided: alerts gained and lost, money, alerts a day."""
    import psycopg

    from include.registry.errors import RegistryError
    from include.training import decision_diff

    ranges = [decision_diff.Offsets(*numbers) for numbers in offsets]
    try:
        result = decision_diff.diff(load(), model, threshold, start, end, offsets=ranges, as_of=as_of)
    except (decision_diff.NothingToCompare, RegistryError) as error:
        raise SystemExit(f"fraudstream diff: {error}") from None
    except psycopg.OperationalError as error:
        raise SystemExit(f"fraudstream diff: {no_database(error)}") from None
    if as_json:
        click.echo(json.dumps(result.described(), indent=2))
    else:
        wide_console().print(
            *decision_diff.sentences(result), *tables(result), f"hash {result.hash}", sep="\n"
        )


def tables(result: DecisionDiff) -> Iterator[Table]:
    """The parts and the examples, as tables."""
    for title, parts in (
        ("Kind of fraud", result.per_scenario),
        ("Customers", result.per_group),
        ("Day", result.per_day),
    ):
        yield _parts(title, parts)
    for title, examples in (("Gained", result.gained), ("Lost", result.lost)):
        if examples:
            yield _examples(title, examples)


def _parts(title: str, parts: dict[str, Part]) -> Table:
    table = Table(
        title, "Transactions", "Alerts", "Candidate's", "Gained", "Lost", "Frauds", "Caught", "Candidate's"
    )
    for name, part in parts.items():
        counts = (
            part.transactions,
            part.stored.alerts,
            part.candidate.alerts,
            part.gained,
            part.lost,
            part.frauds,
        )
        table.add_row(name, *(f"{count:,}" for count in (*counts, part.stored.caught, part.candidate.caught)))
    return table


def _examples(title: str, examples: list[Example]) -> Table:
    table = Table(title, "Customer", "At (UTC)", "Amount", "Score then", "Candidate's", "Known")
    for example in examples:
        known = {True: "fraud", False: "honest", None: "-"}[example.fraud]
        table.add_row(
            example.transaction_id, example.user_id, example.at[:19], f"{example.amount:,.2f}",
            f"{example.stored_score:.4f}", f"{example.candidate_score:.4f}", known,
        )  # fmt: skip
    return table
