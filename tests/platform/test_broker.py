"""The embedded broker: the id of its storage, and when it is ready."""

from __future__ import annotations

import socket
from uuid import UUID

import pytest

from include.platform import broker


def test_a_cluster_id_never_looks_like_an_option(monkeypatch):
    made = iter([UUID(bytes=b"\xf8" + bytes(15)), UUID(bytes=b"\xfb" + bytes(15)), UUID(bytes=bytes(16))])
    monkeypatch.setattr(broker.uuid, "uuid4", lambda: next(made))
    assert broker._cluster_id() == "A" * 22


@pytest.mark.services
def test_a_broker_is_ready_when_it_answers_and_not_when_it_only_accepts_connections(kafka):
    assert broker.ready(kafka)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hung = kafka.model_copy(update={"kafka_port": silent.getsockname()[1]})
        assert not broker.ready(hung, timeout=0.2)
    assert not broker.ready(hung)
