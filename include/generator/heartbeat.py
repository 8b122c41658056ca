"""Writes the producer's state to PostgreSQL, and reads there whether to stop."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable

import psycopg

from include.settings import Settings

log = logging.getLogger(__name__)

TAKE = """
update shop.stream_leases
set epoch = epoch + 1, holder = %s, state = 'starting', detail = '', stop_requested = false, held = false,
    heartbeat_at = clock_timestamp()
where stream = 'producer' returning epoch"""
REPORT = """
update shop.stream_leases set state = %s, detail = %s, heartbeat_at = clock_timestamp()
where stream = 'producer' and epoch = %s returning stop_requested or held"""


class Heartbeat:
    """Writes the producer's row of shop.stream_leases every second; while PostgreSQL does not answer it keeps trying.

    Calls `stop` with the reason when a stop was requested, or when a newer producer took the row over.
    """

    def __init__(
        self,
        settings: Settings,
        report: Callable[[], tuple[str, str]],
        stop: Callable[[str], object],
        seconds: float = 1.0,
    ):
        self._conninfo = settings.conninfo("stream_writer")
        self._report = report
        self._stop = stop
        self._seconds = seconds
        self._ended = threading.Event()
        self._connection: psycopg.Connection | None = None
        self._epoch: int | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        reached = True
        while True:
            last = self._ended.is_set()
            try:
                self._beat()
                if not reached:
                    log.info("PostgreSQL answers again")
                reached = True
            except psycopg.Error as error:
                if reached:
                    log.warning(
                        "PostgreSQL does not answer, producing goes on without it: %s", str(error).strip()
                    )
                reached = False
                self._close()
            if last:
                self._close()
                return
            self._ended.wait(self._seconds)

    def _beat(self) -> None:
        if self._connection is None:
            options = "-c statement_timeout=5000"
            self._connection = psycopg.connect(self._conninfo, autocommit=True, options=options)
        if self._epoch is None:
            lease = self._connection.execute(TAKE, [f"{socket.gethostname()}:{os.getpid()}"]).fetchone()
            self._epoch = lease[0] if lease else None
        row = self._connection.execute(REPORT, [*self._report(), self._epoch]).fetchone()
        if row is None:
            self._stop("a newer producer took over")
        elif row[0]:
            self._stop("asked to stop")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
