"""Spark job: transactions from Kafka, scored by the champion model, into PostgreSQL, each exactly once."""

from __future__ import annotations

import argparse
import sys

from include.features import known_frauds
from include.settings import load
from include.streams import runner
from include.streams.current_model import Champion


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(prog="fraud_stream", description=__doc__).parse_args(argv)
    settings = load()
    champion = Champion(settings)
    topics = (settings.transactions_topic,)
    ahead = {settings.labels_topic: known_frauds.labels}
    job = runner.Job("fraud_stream", topics, champion.handlers, champion.waits_for, champion.says, ahead)
    return runner.main(settings, job)


if __name__ == "__main__":
    sys.exit(main())
