"""Rows of many entities through their states, vectorised over the entities.

Round k holds the k-th row of every entity that has one. With the busiest entities first, each round is a prefix
of the entities and a slice of the rows, so every step of a loop over rounds works on views. A batch costs as
many steps as its busiest entity has rows.
"""

from __future__ import annotations

import numpy as np

NEVER = np.iinfo(np.int64).min


class Rounds:
    """The order in which N rows go through their entities' states.

    `entities` (U,) distinct values of the index, busiest first; `counts` (U,) rows of each; `order` (N,) rows by
    round; `entity` (N,) position in `entities` of each row in that order; `occurrence` (N,) its round;
    `slices` start and end of each round.

    >>> rounds = Rounds(np.array([7, 9, 9, 7, 9]))
    >>> rounds.entities.tolist(), rounds.counts.tolist()
    ([9, 7], [3, 2])
    >>> [rounds.order[start:end].tolist() for start, end in rounds.slices]
    [[1, 0], [2, 3], [4]]
    """

    def __init__(self, index: np.ndarray):
        entities, inverse, counts = np.unique(index, return_inverse=True, return_counts=True)
        by_entity = np.argsort(inverse, kind="stable")
        occurrence = np.empty(len(index), np.int64)
        occurrence[by_entity] = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
        busiest = np.argsort(-counts, kind="stable")
        rank = np.empty(len(entities), np.int64)
        rank[busiest] = np.arange(len(entities))
        self.order = np.lexsort((rank[inverse], occurrence))
        self.entities, self.counts = entities[busiest], counts[busiest]
        self.entity, self.occurrence = rank[inverse][self.order], occurrence[self.order]
        ends = np.cumsum(np.bincount(occurrence)).tolist()
        self.slices = list(zip([0, *ends], ends, strict=False))


class Latest:
    """The latest of several kinds of events of each entity, and which row it was.

    Args:
        times: (N, T) int64, `NEVER` where a row is no event of that kind.
        latest: (U, T) int64 of the entities before the first row.

    `before` (N, T) is the latest that each row finds, `final` (U, T) what remains. `before_row` and `final_row`
    say which row that was: U + row, or below U the entity's own number when it stood there from the start. At
    equal times the earlier row stays.

    >>> latest = Latest(Rounds(np.array([0, 0, 0])), np.array([[5], [3], [8]]), np.array([[4]]))
    >>> latest.before.T.tolist(), latest.final.tolist(), latest.final_row.tolist()
    ([[4, 5, 5]], [[8]], [[3]])
    """

    def __init__(self, rounds: Rounds, times: np.ndarray, latest: np.ndarray):
        entities, kinds = latest.shape
        self.final = latest.copy()
        self.final_row = np.repeat(np.arange(entities)[:, None], kinds, axis=1)
        self.before, self.before_row = np.empty_like(times), np.empty_like(times)
        row = np.repeat(np.arange(len(times))[:, None] + entities, kinds, axis=1)
        for a, b in rounds.slices:
            final, final_row = self.final[: b - a], self.final_row[: b - a]
            self.before[a:b], self.before_row[a:b] = final, final_row
            newer = times[a:b] > final
            np.copyto(final, times[a:b], where=newer)
            np.copyto(final_row, row[a:b], where=newer)


def decayed_sums(rounds: Rounds, sums: np.ndarray, decay: np.ndarray, added: np.ndarray) -> np.ndarray:
    """What each row finds in its entity's sums: (N, S). `sums` (U, S) is changed to what remains.

    Args:
        decay: (N, S) factor for the time since the entity's clock last stood still.
        added: (N, S) what the row adds after it has looked.

    Each row's sum is s ← s · decay, which it finds, and then s ← s + added.

    >>> sums = np.array([[2.0]])
    >>> decayed_sums(Rounds(np.array([0, 0])), sums, np.array([[0.5], [0.5]]), np.array([[1.0], [1.0]])).T
    array([[1., 1.]])
    >>> sums
    array([[2.]])
    """
    before = np.empty_like(added)
    for a, b in rounds.slices:
        current = sums[: b - a]
        current *= decay[a:b]
        before[a:b] = current
        current += added[a:b]
    return before


class Kept:
    """Sets of the values with the latest event times.

    A slot is `second << 32 | hash` and 0 when empty, so the largest slots are the latest values and keeping the
    larger of two is the whole rule: any order of the rows leaves the same sets.

    Args:
        slots: (U, K, L) uint64, K sets of L slots per entity.
        seen: (N, K) uint64, the slot of each row's value, 0 where it has none.

    `known` (N, K) bool and `sizes` (N, K) are what each row finds; `slots` (U, K, L) what remains.

    >>> seen = np.array([[1 << 32 | 7], [2 << 32 | 8], [3 << 32 | 7]], np.uint64)
    >>> kept = Kept(Rounds(np.array([0, 0, 0])), np.zeros((1, 1, 2), np.uint64), seen)
    >>> kept.known.T.tolist(), kept.sizes.T.tolist()
    ([[False, False, True]], [[0, 1, 2]])
    """

    def __init__(self, rounds: Rounds, slots: np.ndarray, seen: np.ndarray):
        self.slots = slots.copy()
        self.known = np.empty(seen.shape, bool)
        self.sizes = np.empty(seen.shape, np.int64)
        flat = self.slots.reshape(-1)
        start = np.arange(0, flat.size, slots.shape[2]).reshape(slots.shape[:2])
        hashes, hashed = self.slots.view("<u4")[..., ::2], seen.astype(np.uint32)[:, :, None]
        for a, b in rounds.slices:
            current = self.slots[: b - a]
            hit = hashes[: b - a] == hashed[a:b]
            known = hit.any(axis=2)
            self.known[a:b] = known
            self.sizes[a:b] = np.count_nonzero(current, axis=2)
            slot = start[: b - a] + np.where(known, hit.argmax(axis=2), current.argmin(axis=2))
            flat[slot] = np.maximum(flat[slot], seen[a:b])
