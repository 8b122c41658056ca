"""The client of Airflow's API, against an imitated server."""

from __future__ import annotations

import httpx
import pytest

from include.platform import airflow
from include.platform.airflow import AirflowError, Client


class Server:
    """Knows one token at a time, as an API server does whose tokens expire or whose key was changed."""

    def __init__(self):
        self.number = 0
        self.asked: list[str] = []

    @property
    def token(self) -> str:
        return f"token-{self.number}"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": self.token})
        if request.headers["Authorization"] != f"Bearer {self.token}":
            return httpx.Response(401, json={"detail": "Invalid JWT token"})
        return httpx.Response(200, json={"dags": [{"dag_id": "a", "is_paused": False}]})


@pytest.fixture
def server(monkeypatch) -> Server:
    server = Server()
    http = httpx.Client(transport=httpx.MockTransport(server))
    monkeypatch.setattr(airflow, "client", lambda: http)
    return server


def test_a_token_that_is_no_longer_accepted_is_replaced_once(server, settings):
    client = Client(settings)
    assert client.dags() == {"a": False} == client.dags()
    assert server.asked.count("/auth/token") == 1
    server.number += 1
    assert client.dags() == {"a": False}
    assert server.asked.count("/auth/token") == 2


def test_a_token_that_is_refused_at_once_is_an_error(server, settings, monkeypatch):
    monkeypatch.setattr(Server, "token", property(lambda self: f"token-{len(self.asked)}"))
    with pytest.raises(AirflowError, match="GET /dags.*401"):
        Client(settings).dags()
    assert server.asked.count("/auth/token") == 2
