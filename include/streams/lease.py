"""Who may write for a stream: one driver at a time.

The holder keeps a PostgreSQL advisory lock on a connection of its own, which ends with the process, and has
raised the stream's epoch, which every write checks. A second driver waits for the lock.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import psycopg

from include.settings import Settings
from include.sql import one_row
from include.streams import store

log = logging.getLogger(__name__)

_KEY = "hashtext('fraudstream'), hashtext(%(stream)s)"
_WAITED_FOR = """
select from pg_locks
where locktype = 'advisory' and not granted
    and classid = hashtext('fraudstream')::oid and objid = hashtext(%(stream)s)::oid"""
_TAKE = """
update shop.stream_leases
set epoch = epoch + 1, holder = %(holder)s, state = 'starting', detail = '', model_version = null,
    heartbeat_at = clock_timestamp()
where stream = %(stream)s returning epoch"""
_REPORT = f"""
update shop.stream_leases
set state = %(state)s, model_version = %(model_version)s,
    heartbeat_at = case when %(works)s then clock_timestamp() else heartbeat_at end,
    detail = concat_ws('; ', nullif(%(detail)s, ''), case when not %(works)s then %(hangs)s end,
        case when exists ({_WAITED_FOR}) then 'another driver waits for this stream' end)
where stream = %(stream)s and epoch = %(epoch)s returning stop_requested or held"""


HANGS = "Spark's JVM does not respond"


class LeaseLost(RuntimeError):
    """The lease's connection broke or another driver took over: this process must stop."""


class Lease:
    """The right to write for a stream, from `take` to `release`.

    While it is held, a thread writes the state that was set to shop.stream_leases every second, and sets
    `stop_requested` when somebody asks the stream to stop, or `lost` with the reason. The request stands, and no
    driver starts, until it is taken back: a scheduler that starts the job again does not defeat it.

    Attributes:
        works: whether what the holder needs for its work responds. While it does not, the heartbeat stays as it is,
            by which the watchdog learns of it.
    """

    def __init__(self, settings: Settings, stream: str, heartbeat_seconds: float = 1.0):
        self.stream = stream
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        self.epoch = 0
        self.stop_requested = threading.Event()
        self.lost: LeaseLost | None = None
        self.works: Callable[[], bool] = lambda: True
        self._connection = store.connect(settings)
        self._heartbeat_seconds = heartbeat_seconds
        self._state: dict[str, Any] = {"state": "starting", "detail": "", "model_version": None}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def take(self, stopping: threading.Event) -> bool:
        """Waits for the lease; False when `stopping` was set, or while the stream is asked to stop.

        Raises:
            psycopg.Error: the database went away.
        """
        arguments = {"stream": self.stream}
        (free,) = one_row(self._connection.execute(f"select pg_try_advisory_lock({_KEY})", arguments))
        if not free:
            log.warning("%s: waiting, another driver holds this stream", self.stream)
        self._connection.execute("set lock_timeout = '1s'")
        while not (free or stopping.is_set() or self._asked_to_stop()):
            try:
                self._connection.execute(f"select pg_advisory_lock({_KEY})", arguments)
                free = True
            except psycopg.errors.LockNotAvailable:
                continue
        self._connection.execute("reset lock_timeout")
        if stopping.is_set() or self._asked_to_stop():
            return False
        taken = self._connection.execute(_TAKE, {"stream": self.stream, "holder": self.holder}).fetchone()
        if taken is None:
            raise LeaseLost(f"{self.stream}: no such stream in shop.stream_leases")
        self.epoch = taken[0]
        self._thread.start()
        return True

    def set_state(self, state: str, detail: str = "", model_version: int | None = None) -> None:
        """Sets what the next report tells the pages and the status command."""
        self._state = {"state": state, "detail": detail, "model_version": model_version}

    def release(self, state: str = "stopped", detail: str = "") -> None:
        """Says how it ended, and gives the lease up."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self.epoch and self.lost is None:
            self.set_state(state, detail, self._state["model_version"])
            self.works = lambda: True  # the end is news, whatever it was
            try:
                self._report()
            except psycopg.Error as error:
                log.warning("%s: the end could not be reported: %s", self.stream, error)
        self._connection.close()

    def _beat(self) -> None:
        while not self._ended.is_set():
            try:
                if not self._report():
                    self.lost = LeaseLost(f"{self.stream}: another driver has taken over")
            except psycopg.Error as error:
                self.lost = LeaseLost(f"{self.stream}: the connection that holds the lease broke: {error}")
            if self.lost:
                return
            self._ended.wait(self._heartbeat_seconds)

    def _report(self) -> bool:
        values = {
            **self._state,
            "stream": self.stream,
            "epoch": self.epoch,
            "works": self.works(),
            "hangs": HANGS,
        }
        row = self._connection.execute(_REPORT, values).fetchone()
        if row is not None and row[0]:
            self.stop_requested.set()
        return row is not None

    def _asked_to_stop(self) -> bool:
        query = "select stop_requested or held from shop.stream_leases where stream = %s"
        row = self._connection.execute(query, (self.stream,)).fetchone()
        if row is None or not row[0]:
            return False
        log.info("%s: asked to stop (shop.stream_leases: stop_requested or held)", self.stream)
        return True
