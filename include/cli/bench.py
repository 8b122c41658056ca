"""The command that runs the benchmarks."""

from __future__ import annotations

import json

import click

from include.bench import DETECTION, DRIFT, QUERIES, SUITES, TRAIN
from include.cli.arguments import JSON
from include.cli.output import wide_console


@click.command()
@click.argument(
    "suite",
    type=click.Choice([*SUITES, DETECTION, DRIFT, QUERIES, TRAIN, "all"]),
    default="all",
)
@click.option(
    "--rows",
    type=click.IntRange(500_000),
    default=10_000_000,
    help="Transactions; for queries and train only.",
)
@JSON
def bench(suite: str, rows: int, as_json: bool) -> None:
    """Measure our ways beside the usual ones.

    Not in all, as they take minutes: detection compares what detectors find, drift counts the model monitor's false
    alarms and right names, queries times those of pages and dashboards, train measures a training."""
    from include.bench import command, detection, drift, queries, train
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
            elif suite == QUERIES:
                result, show = queries.measure(rows, starting=begins), queries.tables
            elif suite == TRAIN:
                result, show = train.measure(rows, starting=begins), train.tables
            elif suite == DRIFT:
                result, show = drift.measure(starting=begins), drift.tables
            else:
                result, show = command.measure(chosen, begins), command.tables
    except (ServerFailed, BenchmarkFailed, JarsError) as error:
        raise SystemExit(f"fraudstream bench: {error}") from None
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        wide_console().print(*show(result), sep="\n")
