"""Which version has which alias, on a real MLflow server and PostgreSQL."""

from __future__ import annotations

import socket
from dataclasses import replace

import httpx
import pytest

from include.registry import aliases, rest
from include.registry.errors import RegistryUnavailable
from tests.registered import register

pytestmark = pytest.mark.services


def test_aliases_are_set_by_the_caller_only_and_a_promoted_challenger_is_no_longer_one(shop):
    assert aliases.champion(shop) is None
    first, second = register(shop), register(shop)
    assert aliases.champion(shop) is None and aliases.challenger(shop) is None
    aliases.set_champion(shop, first.version)
    aliases.set_challenger(shop, second.version)
    assert aliases.champion(shop).version == first.version
    assert aliases.challenger(shop) == replace(second, aliases=("challenger",))
    aliases.set_champion(shop, second.version)
    assert [(known.version, known.aliases) for known in aliases.versions(shop)] == [
        (second.version, ("champion",)),
        (first.version, ()),
    ]


def test_a_server_that_accepts_but_never_answers_counts_as_down(shop, monkeypatch):
    monkeypatch.setattr(rest, "TIMEOUT", httpx.Timeout(0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = shop.model_copy(
            update={"mlflow_tracking_uri": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        )
        with pytest.raises(RegistryUnavailable, match="timed out"):
            aliases.champion(hanging)
