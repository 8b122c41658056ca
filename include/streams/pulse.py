"""Whether Spark's JVM responds. One that hangs does not end, and a call to it never returns."""

from __future__ import annotations

import threading
import time

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

SECONDS = 1.0  # between two questions
LIMIT = 3.0  # seconds without an answer


class Pulse:
    """Asks the JVM again and again, from a thread of its own with a connection of its own."""

    def __init__(self, spark: SparkSession):
        self._spark = spark
        self._ended = threading.Event()
        self._answered_at = time.monotonic()
        threading.Thread(target=self._ask, name="pulse", daemon=True).start()

    def responds(self) -> bool:
        """Whether it answered in the last `LIMIT` seconds."""
        return time.monotonic() - self._answered_at < LIMIT

    def end(self) -> None:
        self._ended.set()

    def _ask(self) -> None:
        while not self._ended.is_set():
            try:
                self._spark._jvm.System.nanoTime()  # type: ignore[union-attr]
            except (Py4JError, OSError):  # it has ended, which the stream learns by itself
                return
            self._answered_at = time.monotonic()
            self._ended.wait(SECONDS)
