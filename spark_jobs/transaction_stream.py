"""Spark job: transactions and labels from Kafka into PostgreSQL, each record exactly once."""

from __future__ import annotations

import argparse
import sys

from include.settings import load
from include.streams import TRANSACTION_STREAM, ingest, runner


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(prog=TRANSACTION_STREAM, description=__doc__).parse_args(argv)
    settings = load()
    handlers = {settings.transactions_topic: ingest.transactions, settings.labels_topic: ingest.labels}
    definition = runner.StreamDefinition(TRANSACTION_STREAM, tuple(handlers), lambda spark: handlers)
    return runner.main(settings, definition)


if __name__ == "__main__":
    sys.exit(main())
