"""The commands of mapping files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from include.settings import load


@click.group()
def mapping() -> None:
    """Help with mapping files, which say how foreign data becomes transactions."""


@mapping.command()
@click.argument("source", metavar="FILE|TOPIC")
@click.option(
    "--answer",
    "answers",
    multiple=True,
    metavar="KEY=ANSWER",
    help="To a question that the sample leaves open, such as timestamp=day-first.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the mapping there, not to the terminal.",
)
def suggest(source: str, answers: tuple[str, ...], output: Path | None) -> None:
    """Look at the first rows of a file, or the newest records of a topic, and write a commented mapping.

    What the sample leaves open, such as the order of day and month, is asked; until it is answered the mapping has no
    line for it and an import refuses it."""
    from include.broker.kafka import KafkaError, TopicMissing
    from include.events.mapping import MappingError
    from include.imports import sample, sources, suggest

    given = dict(answer.partition("=")[::2] for answer in answers)
    from_options = suggest.from_options(given)
    asks = sys.stdin.isatty() and sys.stderr.isatty()

    def answer(question: suggest.Question) -> str | None:
        known = from_options(question)
        if known is None and asks:
            known = click.prompt(f"{question.text}?", type=click.Choice([*question.answers]), err=True)
        return known

    try:
        if Path(source).exists() or any(sign in source for sign in "/*?."):
            rows = sample.sample_file(sources.find_files(source)[0])
        else:
            rows = sample.sample_topic(load(), source)
        result = suggest.suggest(rows, answer)
        if output:
            output.write_text(result.text, "utf8")
    except TopicMissing as error:
        raise SystemExit(f"fraudstream mapping suggest: there is no file {source}, and {error}") from None
    except (sources.UnreadableFile, suggest.UnknownAnswer, MappingError, KafkaError, OSError) as error:
        raise SystemExit(f"fraudstream mapping suggest: {error}") from None
    if not output:
        click.echo(result.text, nl=False)
    for question in result.open:
        choices = " or ".join(f"--answer {question.key}={choice}" for choice in question.answers)
        click.echo(f"Open: {question.text}{': ' + choices if choices else ''}", err=True)
    if not result.open:
        file = output or "mapping.yaml"
        settings = f"set FRAUDSTREAM_MAPPING={file} and FRAUDSTREAM_TRANSACTIONS_TOPIC={source}"
        command = f"fraudstream import {source} --mapping {file} --dry-run"
        click.echo(f"Next: {settings if rows.topic else command}", err=True)
    sys.exit(1 if result.open else 0)
