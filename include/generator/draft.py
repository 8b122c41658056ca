"""Payments in the making, as arrays: ordinary ones, and those that campaigns add."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

ODDITIES = (
    None,
    "holiday",
    "big_purchase",
    "borrowed_device",
    "new_device",
    "moved",
    "travel_home",
    "bought_abroad",
)
ODD = {name: code for code, name in enumerate(ODDITIES)}


@dataclass
class Draft:
    """Payments in the making, arrays of shape (N,); the scenarios change them in place."""

    time: np.ndarray
    customer: np.ndarray
    home: np.ndarray  # city of residence
    on_file: np.ndarray  # city of the address that the shop has
    city: np.ndarray  # where the payment is made
    merchant: np.ndarray
    remote: np.ndarray  # bool: paid from home, the position is the customer's
    amount: np.ndarray
    device: np.ndarray
    scenario: np.ndarray  # code
    oddity: np.ndarray  # code
    campaign: np.ndarray  # uint64 hash of the episode or campaign that a payment belongs to
    progress: np.ndarray  # how far that has come, in [0, 1]

    @classmethod
    def empty(cls, time: np.ndarray, customer: np.ndarray, home: np.ndarray, on_file: np.ndarray) -> Draft:
        """Honest payments of customers at times, of nothing and at home so far."""
        n = len(time)
        return cls(
            time=time,
            customer=customer,
            home=home,
            on_file=on_file,
            city=home.copy(),
            merchant=np.zeros(n, np.int64),
            remote=np.zeros(n, bool),
            amount=np.zeros(n),
            device=np.zeros(n, np.int64),
            scenario=np.zeros(n, np.int8),
            oddity=np.zeros(n, np.int8),
            campaign=np.zeros(n, np.uint64),
            progress=np.zeros(n),
        )

    def mark(self, i: np.ndarray, added: CampaignPayments, rows: np.ndarray) -> None:
        """Says which of the payments are those rows of the campaigns."""
        for name in ("campaign", "scenario", "progress", "oddity"):
            getattr(self, name)[i] = getattr(added, name)[rows]

    def turn(self, chosen: np.ndarray, code: int) -> np.ndarray:
        """Makes the chosen payments (N,) fraud of a scenario, where they are honest and ordinary; says which were."""
        turned = chosen & (self.scenario == 0) & (self.oddity == 0)
        self.scenario[turned] = code
        return turned


@dataclass
class CampaignPayments:
    """Payments of the campaigns that start in one hour, in order of time."""

    time: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    customer: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    scenario: np.ndarray = field(default_factory=lambda: np.empty(0, np.int8))
    campaign: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    progress: np.ndarray = field(default_factory=lambda: np.empty(0))
    oddity: np.ndarray = field(default_factory=lambda: np.empty(0, np.int8))

    @classmethod
    def joined(cls, parts: list[CampaignPayments]) -> CampaignPayments:
        names = cls.__dataclass_fields__
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        order = np.argsort(columns["time"], kind="stable")
        return cls(**{name: column[order] for name, column in columns.items()})

    def between(self, start: int, end: int) -> CampaignPayments:
        first, last = np.searchsorted(self.time, [start, end])
        return CampaignPayments(
            **{name: getattr(self, name)[first:last] for name in self.__dataclass_fields__}
        )
