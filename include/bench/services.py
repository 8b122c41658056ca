"""Servers for a benchmark, in a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from include.broker.kafka import ensure_topics
from include.platform import temporary
from include.settings import Settings


@contextmanager
def services(*, kafka: bool = False) -> Iterator[Settings]:
    """A migrated PostgreSQL and, if asked for, a Kafka broker with its topics.

    Raises:
        include.platform.temporary.ServerFailed
    """
    with tempfile.TemporaryDirectory(prefix="fraudstream-bench-", ignore_cleanup_errors=True) as folder:
        settings = temporary.temporary_settings(Path(folder))
        broker = temporary.kafka(settings) if kafka else nullcontext()
        with temporary.postgres(settings), broker:
            if kafka:
                ensure_topics(settings, timeout=temporary.START_SECONDS)
            yield settings
