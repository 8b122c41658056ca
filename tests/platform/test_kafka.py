"""The id of a new broker's storage."""

from __future__ import annotations

from uuid import UUID

from include.platform import kafka


def test_a_cluster_id_never_looks_like_an_option(monkeypatch):
    made = iter([UUID(bytes=b"\xf8" + bytes(15)), UUID(bytes=b"\xfb" + bytes(15)), UUID(bytes=bytes(16))])
    monkeypatch.setattr(kafka.uuid, "uuid4", lambda: next(made))
    assert kafka._cluster_id() == "A" * 22
