"""Spark job: transactions from Kafka, scored by the champion model, into PostgreSQL, each exactly once."""

from __future__ import annotations

import argparse
import sys

from include.settings import load
from include.streams import FRAUD_STREAM, known_labels, runner
from include.streams.current_model import CurrentModel


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(prog=FRAUD_STREAM, description=__doc__).parse_args(argv)
    settings = load()
    model = CurrentModel(settings)
    definition = runner.StreamDefinition(
        FRAUD_STREAM,
        (settings.transactions_topic,),
        model.handlers,
        waits_for=model.waits_for,
        report=model.report,
        read_ahead={settings.labels_topic: known_labels.labels},
    )
    return runner.main(settings, definition)


if __name__ == "__main__":
    sys.exit(main())
