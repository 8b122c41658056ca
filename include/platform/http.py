"""Asks a service on loopback over HTTP, through one connection pool: a client a question costs 50 ms of CPU."""

from __future__ import annotations

from functools import lru_cache

import httpx


@lru_cache(maxsize=1)
def client() -> httpx.Client:
    return httpx.Client(timeout=15, trust_env=False)


def answers(url: str) -> bool:
    """True when a GET of `url` gives 200 within 2 seconds."""
    try:
        return client().get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
