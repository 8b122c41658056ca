"""`python -m include.faults.producer FOLDER SEED START COUNT` sends the campaign's events until all are acknowledged.

It may be killed at any time: started again, it sends those that its list of acknowledged events does not have.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException, Message, Producer

from include.broker import kafka
from include.faults.acknowledged import ALLOWED, LIST, Reader, Writer
from include.faults.events import Event, Events
from include.settings import Settings, load

SYNC_SECONDS = 0.05


def main(argv: list[str]) -> int:
    folder, seed, start, count = argv
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        send(load(), Path(folder), Events(int(seed), datetime.fromisoformat(start)), int(count))
    except KafkaException as error:  # such a client cannot go on; a new process can
        logging.error("the producer ends: %s", error)
        return 1
    return 0


def send(settings: Settings, folder: Path, events: Events, count: int) -> None:
    """Sends events below `count` that are not in the list yet, as far as allowed, until the list has them all.

    Raises:
        KafkaException: the client gave up for good.
    """
    topics = {False: settings.transactions_topic, True: settings.labels_topic}
    writer = Writer(folder / LIST)
    config = kafka.writer_config(settings, linger_ms=5)
    producer = Producer(config, logger=logging.getLogger("kafka"))
    synced = time.monotonic()

    def acknowledged(event: Event, error: object, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        if error is None and partition is not None and offset is not None:  # one that failed is sent again
            writer.add(event.number, event.is_label, partition, offset, time.time())

    def serve(seconds: float = 0) -> None:
        nonlocal synced
        producer.poll(seconds)
        if time.monotonic() - synced > SYNC_SECONDS:
            writer.sync()
            synced = time.monotonic()

    def produce(event: Event) -> None:
        producer.produce(
            topics[event.is_label],
            event.value,
            event.key,
            headers={"number": str(event.number)},
            on_delivery=partial(acknowledged, event),
        )

    while missing := _missing(folder / LIST, count):
        for number in _paced(missing, folder / ALLOWED, serve):
            while True:
                try:
                    produce(events.event(number))
                    break
                except BufferError:  # no broker answers
                    serve(0.1)
            serve()
        while len(producer):
            serve(0.05)
        writer.sync()


def _missing(path: Path, count: int) -> list[int]:
    known = bytearray(count)
    for acknowledged in Reader(path).new():
        known[acknowledged.number] = 1
    return [number for number in range(count) if not known[number]]


def _paced(numbers: list[int], allowed: Path, serve: Callable[[float], None]) -> Iterator[int]:
    """The numbers, each as soon as the campaign allows it."""
    limit = -1
    for number in numbers:
        while number >= limit:
            serve(0.02)
            limit = int(allowed.read_text() or 0)
        yield number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
