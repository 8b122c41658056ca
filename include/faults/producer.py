"""`python -m include.faults.producer FOLDER SEED START COUNT` sends the campaign's events until all are acknowledged.

Every second group of events is sent in transactions, for events and labels; after every second one of these comes a
transaction with events of its own that is aborted. The process may be killed at any time, within a transaction, too:
started again, it sends what its list of acknowledged events does not have.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path

from confluent_kafka import KafkaException, Message, Producer

from include.broker import kafka
from include.faults.acknowledged import (
    ABORTED,
    ALLOWED,
    DIE_IN_TRANSACTION,
    LIST,
    Acknowledged,
    Appender,
    Reader,
)
from include.faults.events import Event, Events
from include.settings import Settings, load

SYNC_SECONDS = 0.05
GROUP = 50  # events: numbers that follow one another
TRANSACTION_SECONDS = 1.0  # a transaction is committed then at the latest: readers wait for an open one


def main(argv: list[str]) -> int:
    folder, seed, start, count = argv
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        send(load(), Path(folder), Events(int(seed), datetime.fromisoformat(start)), int(count))
    except (KafkaException, kafka.KafkaError) as error:  # such a client cannot go on; a new process can
        logging.error("the producer ends: %s", error)
        return 1
    return 0


class Client:
    """A client that sends events, and what the broker acknowledged of them since it was last asked."""

    def __init__(self, settings: Settings, **more: str):
        self._topics = {False: settings.transactions_topic, True: settings.labels_topic}
        config = kafka.writer_config(settings, linger_ms=5, **more)
        self._producer = Producer(config, logger=logging.getLogger("kafka"))
        self._acknowledged: list[Acknowledged] = []

    def send(self, event: Event) -> None:
        on_delivery = partial(self._delivered, event)
        headers: dict[str, str | bytes | None] = {"number": str(event.number)}
        topic = self._topics[event.is_label]
        while True:
            try:
                self._producer.produce(
                    topic, event.value, event.key, headers=headers, on_delivery=on_delivery
                )
                break
            except BufferError:  # no broker answers
                self._producer.poll(0.1)
        self._producer.poll(0)

    def _delivered(self, event: Event, error: object, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        if error is None and partition is not None and offset is not None:  # one that failed is sent again
            self._acknowledged.append(
                Acknowledged(event.number, event.is_label, partition, offset, time.time())
            )

    def flush(self) -> None:
        while len(self._producer):
            self._producer.poll(0.05)

    def acknowledged(self, seconds: float = 0) -> list[Acknowledged]:
        """What was acknowledged since the last call, after waiting for more for some seconds."""
        self._producer.poll(seconds)
        acknowledged, self._acknowledged = self._acknowledged, []
        return acknowledged


class TransactionalClient(Client):
    """A client whose events count when their transaction is committed.

    Raises:
        KafkaException: the transaction cannot be ended; a new client aborts it.
    """

    def __init__(self, settings: Settings):
        super().__init__(settings, transactional_id=f"faults-{settings.transactions_topic}")
        self._producer.init_transactions(30)  # aborts the transaction that a killed process left open
        self._began: float | None = None

    def begin(self) -> None:
        self._producer.begin_transaction()
        self._began = time.monotonic()

    @property
    def seconds_open(self) -> float:
        """How long the transaction has been open; 0 without one."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    def commit(self) -> list[Acknowledged]:
        """The transaction's events; `at` is the time of the commit."""
        return self._end(self._producer.commit_transaction)

    def abort(self) -> list[Acknowledged]:
        """The transaction's events, which no reader of committed records gets."""
        return self._end(self._producer.abort_transaction)

    def _end(self, end: Callable[[float], None]) -> list[Acknowledged]:
        self.flush()
        while True:
            try:
                end(30)
                break
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
        self._began = None
        now = time.time()
        return [event._replace(at=now) for event in self.acknowledged()]


def send(settings: Settings, folder: Path, events: Events, count: int) -> None:
    """Sends events below `count` that are not in the list yet, as far as allowed, until the list has them all.

    Raises:
        KafkaException, include.broker.kafka.KafkaError: a client gave up for good.
    """
    acknowledged, aborted = Appender(folder / LIST), Appender(folder / ABORTED)
    plain, transactions = Client(settings), TransactionalClient(settings)
    synced = time.monotonic()

    def serve(seconds: float = 0) -> None:
        nonlocal synced
        acknowledged.add(plain.acknowledged(seconds))
        if time.monotonic() - synced > SYNC_SECONDS:
            acknowledged.sync()
            synced = time.monotonic()

    def commit() -> None:
        _die_if_asked(folder, transactions)
        acknowledged.add(transactions.commit())

    def wait() -> None:
        if transactions.seconds_open > TRANSACTION_SECONDS:
            commit()
        serve(0.02)

    while missing := _missing(folder / LIST, count):
        for group, members in groupby(missing, lambda number: number // GROUP):
            numbers = list(members)
            is_transaction = group % 2 == 1
            client = transactions if is_transaction else plain
            for number in _paced(numbers, folder / ALLOWED, wait):
                if is_transaction and not transactions.seconds_open:
                    transactions.begin()
                client.send(events.event(number))
                serve()
            if transactions.seconds_open:
                commit()
            if group % 4 == 1:
                transactions.begin()
                for number in numbers:
                    transactions.send(events.aborted(number))
                aborted.add(transactions.abort())
                aborted.sync()
        plain.flush()
        acknowledged.add(plain.acknowledged())
        acknowledged.sync()
    _wait_for_markers(settings, folder)


def _die_if_asked(folder: Path, transactions: Client) -> None:
    """Dies with an open transaction, all of whose events the broker has."""
    if (folder / DIE_IN_TRANSACTION).exists():
        transactions.flush()
        (folder / DIE_IN_TRANSACTION).unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def _wait_for_markers(settings: Settings, folder: Path) -> None:
    """Until readers can pass every transaction: the broker answers a commit before it has written the markers."""
    topics = {False: settings.transactions_topic, True: settings.labels_topic}
    last: dict[tuple[str, int], int] = {}
    for name in (LIST, ABORTED):
        for event in Reader(folder / name).new():
            key = topics[event.is_label], event.partition
            last[key] = max(event.offset, last.get(key, 0))
    while any(
        kafka.end_offsets(settings, topic)[partition] <= last[topic, partition] for topic, partition in last
    ):
        time.sleep(0.05)


def _missing(path: Path, count: int) -> list[int]:
    known = bytearray(count)
    for acknowledged in Reader(path).new():
        known[acknowledged.number] = 1
    return [number for number in range(count) if not known[number]]


def _paced(numbers: list[int], allowed: Path, wait: Callable[[], None]) -> Iterator[int]:
    """The numbers, each as soon as the campaign allows it."""
    limit = -1
    for number in numbers:
        while number >= limit:
            wait()
            limit = int(allowed.read_text() or 0)
        yield number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
