"""Publishes simulated transactions: their history first where it is missing, then live ones until it is stopped."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import datetime

from include.broker.kafka import KafkaError, ensure_topics
from include.broker.publish import DeliveryFailed
from include.generator.config import Config, GeneratorError
from include.generator.heartbeat import Heartbeat
from include.generator.producer import FLUSH_SECONDS, ProducerRun
from include.generator.profiles import PROFILES
from include.settings import Settings, SettingsError, load
from include.streams.orphan import exit_when_orphaned

log = logging.getLogger("producer")


def arguments(argv: Sequence[str] | None, settings: Settings) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="producer", description=__doc__)
    parser.add_argument(
        "--rate", type=float, help=f"transactions per second (default {settings.rate_per_second:g})"
    )
    parser.add_argument(
        "--fraud-rate",
        type=_fraud_rate,
        help="share of fraud; own: the setting's or profile's (default: own)",
    )
    parser.add_argument("--profile", choices=sorted(PROFILES), help=f"default {settings.profile}")
    parser.add_argument("--seed", type=int, help=f"default {settings.seed}")
    parser.add_argument(
        "--drift-at", type=datetime.fromisoformat, help="from then on amounts, devices and fraud change"
    )
    parser.add_argument(
        "--history",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="publish the history first, once",
    )
    return parser.parse_args(argv)


def _fraud_rate(text: str) -> float | None:
    return None if text == "own" else float(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 after a stop that was asked for with all delivered, else 1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = load()
        options = vars(arguments(argv, settings))
        with_history = options.pop("history")
        config = Config.from_settings(settings, **options)
        ensure_topics(settings)
        run = ProducerRun(settings, config)
        _stop_when_asked(run)
        undelivered = _publish(run, with_history)
    except (SettingsError, GeneratorError, KafkaError, DeliveryFailed) as error:
        log.error("%s", error)
        return 1
    publisher = run.publisher
    log.info("%d sent, %d acknowledged", publisher.sent, publisher.acknowledged)
    if undelivered:
        log.error(
            "%d records were not acknowledged within %.0f s: %s",
            undelivered,
            FLUSH_SECONDS,
            publisher.problem,
        )
    return 1 if undelivered else 0


def _stop_when_asked(run: ProducerRun) -> None:
    """A signal stops the run, and so does the death of a process that it belongs to."""
    exit_when_orphaned(lambda: run.stop("a parent process died"), grace=FLUSH_SECONDS + 5)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _: run.stop(signal.Signals(received).name))


def _publish(run: ProducerRun, with_history: bool) -> int:
    """Publishes and reports meanwhile; the number of records that could not be delivered."""
    with Heartbeat(run.settings, run.report, run.stop):
        try:
            undelivered = run.publish(with_history)
            run.state = "stopped"
        except BaseException:
            run.state = "failed"
            raise
    return undelivered


if __name__ == "__main__":
    sys.exit(main())
