"""The embedded servers start, are provisioned, and keep to loopback."""

import psutil
import psycopg
import pytest

from include.platform import postgres as postgres_server

pytestmark = pytest.mark.services


def test_provisioning_may_be_repeated(postgres):
    postgres_server.provision(postgres)
    with psycopg.connect(postgres.conninfo("stream_writer")) as connection:
        assert connection.execute("select count(*) from shop.transactions").fetchone() == (0,)


def test_nothing_listens_beyond_loopback(kafka, mlflow_server):
    ours = {kafka.kafka_port, kafka.kafka_controller_port, kafka.mlflow_port, kafka.postgres_port}
    listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    addresses = {(each.laddr.port, each.laddr.ip) for each in listening if each.laddr.port in ours}
    assert {port for port, _ in addresses} == ours
    assert {ip.removeprefix("::ffff:") for _, ip in addresses} == {"127.0.0.1"}
