"""What a simulated world is made from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from include.settings import Settings

MOST_CUSTOMERS = 1_000_000  # about 300 MB in the producer; at a higher rate they pay more often
FRAUD_RATE = {"world": 0.01, "original": 0.1}


class GeneratorError(ValueError):
    """A world cannot be made from these parameters; the message names the parameter."""


@dataclass(frozen=True)
class Config:
    """Parameters of a simulated world; equal configurations give equal events, byte for byte.

    Attributes:
        fraud_rate: share of transactions that are fraud, at most 0.5.
        rate: transactions per second at the end of the history and live.
        customers, merchants: of one town.
        towns: how many there are at the end of the history and live; of a part of a town only the first customers.
        history_days, history_events: length and size of the history.
        drift_at: from then on amounts, devices and the mix of fraud change; `None`: never.
        truth_in_events: write `is_fraud` into each event instead of sending labels.
    """

    profile: Literal["world", "original"] = "world"
    seed: int = 7
    fraud_rate: float = 0.01
    rate: float = 1.0
    customers: int = 5_000
    merchants: int = 2_000
    towns: float = 1.0
    history_days: int = 21
    history_events: int = 150_000
    drift_at: datetime | None = None
    truth_in_events: bool = False

    def __post_init__(self) -> None:
        checks = {
            "seed": self.seed >= 0,
            "fraud_rate": 0 <= self.fraud_rate <= 0.5,
            "rate": 0 < self.rate <= 1_000_000,
            "customers": self.customers >= 10,
            "merchants": self.merchants >= 10,
            "towns": 0 < self.towns <= 1_000_000,
            "history_days": self.history_days >= 0,
            "history_events": self.history_events >= 0,
            "drift_at": self.drift_at is None or self.drift_at.tzinfo is not None,
        }
        for name, usable in checks.items():
            if not usable:
                raise GeneratorError(f"{name} cannot be {getattr(self, name)!r}")

    @classmethod
    def from_settings(cls, settings: Settings, **changed: Any) -> Config:
        """The configuration that the settings describe; a value of `None` in `changed` changes nothing.

        There are as many towns as transactions a second, so that a higher rate means more customers, not busier ones,
        up to `MOST_CUSTOMERS`. The profile `original` has its own fraud rate unless one is set.
        """
        changed = {name: value for name, value in changed.items() if value is not None}
        profile = changed.get("profile", settings.profile)
        fraud_rate = settings.fraud_rate
        if "fraud_rate" not in settings.model_fields_set:
            fraud_rate = FRAUD_RATE[profile]
        rate = changed.get("rate", settings.rate_per_second)
        values = dict(
            profile=profile,
            seed=settings.seed,
            fraud_rate=fraud_rate,
            rate=rate,
            towns=min(rate, max(1.0, MOST_CUSTOMERS / settings.customers)),
            customers=settings.customers,
            merchants=settings.merchants,
            history_days=settings.history_days,
            history_events=settings.history_events,
            truth_in_events=profile == "original",
        )
        return cls(**values | changed)
