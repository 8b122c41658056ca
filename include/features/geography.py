"""Countries of locations, and distances between positions."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

EARTH_DIAMETER = 12742.0  # km, twice the mean radius


@lru_cache(maxsize=1 << 17)
def country_of(location: str | None) -> str:
    """The country of a location: the text after the last comma, casefolded; empty without a location.

    >>> country_of("Nairobi, Kenya"), country_of(None)
    ('kenya', '')
    """
    return location.rpartition(",")[2].strip().casefold() if location else ""


def kilometres(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Great-circle distances (N,) in km of positions (N, 2), latitude and longitude in degrees.

    The haversine formula on a sphere of radius 6371 km: d = 2 r asin(sqrt(sin²(Δφ/2) + cos φ₁ cos φ₂ sin²(Δλ/2))).

    >>> kilometres(np.array([[52.52, 13.405]]), np.array([[-1.286, 36.817]])).round()
    array([6370.])
    """
    (lat1, lon1), (lat2, lon2) = np.radians(here.astype(np.float64)).T, np.radians(there.astype(np.float64)).T
    half = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return EARTH_DIAMETER * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
