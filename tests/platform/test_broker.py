"""The id of a new broker's storage."""

from __future__ import annotations

from uuid import UUID

from include.platform import broker


def test_a_cluster_id_never_looks_like_an_option(monkeypatch):
    made = iter([UUID(bytes=b"\xf8" + bytes(15)), UUID(bytes=b"\xfb" + bytes(15)), UUID(bytes=bytes(16))])
    monkeypatch.setattr(broker.uuid, "uuid4", lambda: next(made))
    assert broker._cluster_id() == "A" * 22
