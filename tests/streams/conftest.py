"""What tests of the streams' writing share: an empty database, and a connection as a stream has it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from include.settings import Settings
from include.streams import store


@pytest.fixture
def shop(clean_postgres: Settings) -> Settings:
    """The settings of an empty database; a module that needs more has its own."""
    return clean_postgres


@pytest.fixture
def connection(shop: Settings) -> Iterator[psycopg.Connection]:
    with store.connect(shop) as connection:
        yield connection
