"""Random numbers as hashes of what they belong to (a customer, a week): the same in any order of calls."""

from __future__ import annotations

import zlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = (np.uint64(bits) for bits in (30, 27, 31, 11))


def salt(seed: int, name: str) -> np.uint64:
    """Start value of a family of hashes; families of different names are independent."""
    start = np.array([seed * 0x9E3779B97F4A7C15 + zlib.crc32(name.encode()) & 0xFFFFFFFFFFFFFFFF], np.uint64)
    return mix(start)[0]


def mix(x: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    x = (x ^ (x >> _30)) * _FIRST
    x = (x ^ (x >> _27)) * _SECOND
    return x ^ (x >> _31)


def hashed(start: np.uint64, *columns: np.ndarray) -> np.ndarray:
    """(N,) uint64 hashes of whole-number columns of shape (N,), at least one."""
    x = np.asarray(start)
    for column in columns:
        x = mix((column.astype(np.uint64) + _GOLDEN) ^ x)
    return x


def unit(x: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1) from hashes."""
    return (x >> _11) * 2.0**-53


def again(x: np.ndarray, which: int) -> np.ndarray:
    """Further independent numbers in [0, 1) from the same hashes, others for each `which`."""
    return unit(mix(x + np.uint64(0x9E3779B97F4A7C15 * which & 0xFFFFFFFFFFFFFFFF)))
