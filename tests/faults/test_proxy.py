"""The proxy does to a real database connection what it says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from include.faults.proxy import Proxy
from include.platform import ports
from include.settings import Settings
from tests.waiting import PATIENCE

pytestmark = pytest.mark.services


@pytest.fixture
def proxy(postgres: Settings):
    proxy = Proxy(ports.free(1)[0], postgres.postgres_port)
    proxy.start()
    yield proxy
    proxy.close()


def connect(settings: Settings, proxy: Proxy, **more) -> psycopg.Connection:
    through = settings.model_copy(update={"postgres_port": proxy.port})
    return psycopg.connect(through.conninfo("owner"), autocommit=True, **more)


def test_it_forwards_large_answers(postgres, proxy):
    with connect(postgres, proxy) as connection:
        assert (
            connection.execute("select length(repeat('x', 3000000)), repeat('y', 3000000)").fetchone()[1][-1]
            == "y"
        )


def test_a_cut_breaks_every_connection_and_lets_new_ones_through(postgres, proxy):
    first, second = connect(postgres, proxy), connect(postgres, proxy)
    proxy.cut()
    for connection in (first, second):
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    with connect(postgres, proxy) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_silence_holds_the_answer_back_and_breaks_nothing(postgres, proxy):
    with connect(postgres, proxy) as connection, ThreadPoolExecutor() as pool:
        proxy.silence(True)
        answer = pool.submit(connection.execute, "select 1")
        try:
            with pytest.raises(TimeoutError):
                answer.result(0.5)
        finally:
            proxy.silence(False)
        assert answer.result(PATIENCE).fetchone() == (1,)


def test_a_lost_reply_to_a_commit_leaves_the_row_and_no_news_of_it(postgres, proxy):
    with psycopg.connect(postgres.conninfo("owner"), autocommit=True) as direct:
        direct.execute("create table shop.lost_reply (x int)")
        try:
            connection = connect(postgres, proxy)
            proxy.lose_next_commit_reply()
            with pytest.raises(psycopg.OperationalError), connection.transaction():
                connection.execute("insert into shop.lost_reply values (1)")
            assert proxy.reply_lost.wait(PATIENCE)
            assert direct.execute("select count(*) from shop.lost_reply").fetchone() == (1,)
            with connect(postgres, proxy) as other, other.transaction():
                other.execute("insert into shop.lost_reply values (2)")
            assert direct.execute("select count(*) from shop.lost_reply").fetchone() == (2,)
        finally:
            direct.execute("drop table shop.lost_reply")


def test_a_database_that_is_down_is_down_behind_it(postgres):
    proxy = Proxy(*ports.free(2))
    proxy.start()
    try:
        with pytest.raises(psycopg.OperationalError):
            connect(postgres, proxy)
    finally:
        proxy.close()
