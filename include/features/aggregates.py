"""What is remembered of a customer and of a merchant: the specification of the sums and sets in their states.

A sum adds up a quantity with a memory W: a payment of age a weighs exp(-a / W), so that a steady rate r of payments
gives a count of r W (forward form in Cormode et al., "Forward Decay", ICDE 2009). The cost of a row does not depend on
the memory. A set keeps the values with the latest event times (include.features.rounds.Kept).

A new quantity, memory or set is a line of the tables here. It changes what states hold: raise
include.features.behaviour.LAYOUT, and streams begin with new states. A field at the end of a state whose zeros mean
that nothing is known needs no new layout: states are stored without the zeros at their end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

HOUR, DAY = 3600.0, 86400.0  # seconds
WINDOWS = (HOUR, DAY, 7 * DAY, 30 * DAY)
MONTH = WINDOWS[3]
HABIT = 90 * DAY  # memory of a customer's own usual amount and rate
BURST = 1800.0  # memory of a burst of tiny amounts
TINY_AMOUNT = 5.0

# What a payment adds to sums. A wave is the cosine or sine of one to three turns a day of its time (UTC).
LEVELS = ("payments", "amount", "log_amount", "squared_log_amount")
WAVES = ("cos_1", "sin_1", "cos_2", "sin_2", "cos_3", "sin_3")
QUANTITIES = (*LEVELS, *WAVES, "tiny_payments", "new_merchants")


class Sum(NamedTuple):
    """A quantity summed up over a memory in seconds."""

    quantity: str
    memory: float


class Aggregates:
    """The decayed sums of one kind of entity, in the order in which its states keep them.

    Args:
        table: rows of quantities (out of `QUANTITIES`) and the memories over which each of them is summed.

    `sums` has the S sums in order: for each row of the table, each memory, each quantity.

    >>> pace = Aggregates([(("payments", "amount"), (HOUR, DAY))])
    >>> [f"{quantity} in {memory:.0f} s" for quantity, memory in pace.sums]
    ['payments in 3600 s', 'amount in 3600 s', 'payments in 86400 s', 'amount in 86400 s']
    >>> pace.weights(np.array([3600.0])).round(3)
    array([[0.368, 0.368, 0.959, 0.959]])
    >>> pace.read(np.array([[1, 20, 3, 60]]), "amount", (HOUR, DAY))
    array([[20, 60]])
    """

    def __init__(self, table: Sequence[tuple[tuple[str, ...], tuple[float, ...]]]):
        self.sums: list[Sum] = []
        self._columns: dict[tuple[object, object], int | slice] = {}
        for quantities, memories in table:
            step, first = len(quantities), len(self.sums)
            end = first + step * len(memories)
            for number, quantity in enumerate(quantities):
                self._columns[quantity, memories] = slice(first + number, end, step)
            for memory in memories:
                self._columns[quantities, memory] = slice(len(self.sums), len(self.sums) + step)
                for quantity in quantities:
                    self._columns[quantity, memory] = len(self.sums)
                    self.sums.append(Sum(quantity, memory))
        self._quantity_of = np.array([QUANTITIES.index(quantity) for quantity, _ in self.sums])
        self._memories, self._memory_of = np.unique([memory for _, memory in self.sums], return_inverse=True)

    def __len__(self) -> int:
        return len(self.sums)

    def added(self, quantities: np.ndarray) -> np.ndarray:
        """What payments with these quantities (N, len(QUANTITIES)) add: (N, S)."""
        return quantities[:, self._quantity_of]

    def weights(self, age: np.ndarray, per_second: float = 1.0) -> np.ndarray:
        """What remains of each sum after an age (N,), given in units of which `per_second` are a second: (N, S)."""
        return np.exp(-age[:, None] / (per_second * self._memories))[:, self._memory_of]

    def read(
        self, values: np.ndarray, quantity: str | tuple[str, ...], memory: float | tuple[float, ...]
    ) -> np.ndarray:
        """Sums by name out of all (N, S), without copying.

        One quantity over one memory is (N,). One over all memories of its row in the table is (N, W), all quantities of
        a row over one of its memories (N, Q).

        Raises:
            KeyError: the table has no such sum.
        """
        return values[:, self._columns[quantity, memory]]


CUSTOMER = Aggregates([
    (LEVELS, WINDOWS),
    (("payments", "log_amount", "squared_log_amount"), (HABIT,)),
    (WAVES, (MONTH,)),
    (("tiny_payments",), (BURST,)),
    (("new_merchants",), (DAY, 7 * DAY, HABIT)),
])  # fmt: skip
MERCHANT = Aggregates([
    (LEVELS, WINDOWS),
    (("tiny_payments",), (BURST, MONTH)),
])  # fmt: skip

# Sets of the values that a customer used last, by the state's field: which values, and how many of each are kept.
KNOWN = {"known": (("device", "country", "category"), 8), "merchants": (("merchant",), 16)}
VALUES = tuple(value for values, _ in KNOWN.values() for value in values)


def quantities(time: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """The quantities (N, len(QUANTITIES)) of payments; new_merchants, which depends on the past, is 0.

    Args:
        time: (N,) microseconds since 1970.
        amount: (N,)

    >>> dict(zip(QUANTITIES, quantities(np.array([0]), np.array([4.0]))[0].round(2).tolist()))["log_amount"]
    1.61
    """
    log_amount = np.log1p(amount)
    angle = (time % int(DAY * 1e6)) * (2 * np.pi / (DAY * 1e6))
    columns = {
        "payments": np.ones_like(amount),
        "amount": amount,
        "log_amount": log_amount,
        "squared_log_amount": log_amount**2,
        "tiny_payments": amount <= TINY_AMOUNT,
        "new_merchants": np.zeros_like(amount),
    }
    for turns in (1, 2, 3):
        columns[f"cos_{turns}"], columns[f"sin_{turns}"] = np.cos(turns * angle), np.sin(turns * angle)
    return np.stack([columns[name] for name in QUANTITIES], axis=1)
