"""The command that runs the fault campaign."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from include.cli.arguments import JSON


@click.command()
@click.option(
    "--airflow", is_flag=True, help="Hurt the platform with Airflow, not its bare streams; takes longer."
)
@click.option("--events", type=int, help="Events of a round (default: 100,000; with --airflow 20,000).")
@click.option("--kills", type=int, help="Processes to kill in a round (30; 8).")
@click.option("--pauses", type=int, help="Pauses in a round (3; 12).")
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
