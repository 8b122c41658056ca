"""Fields of forms that more than one DAG has."""

from __future__ import annotations

from airflow.sdk import Param

from include.settings import Settings, limits


def producer_form(settings: Settings) -> dict[str, Param]:
    """What can be said of the synthetic transactions."""
    return {
        "rate": Param(settings.rate_per_second, type="number", title="Transactions per second",
                      **limits("rate_per_second")),
        "fraud_rate": Param(None, type=["null", "number"], **limits("fraud_rate"),
                            title="Share of fraudulent transactions",
                            description="empty: the setting's, or the profile's own (world 1 %, original 10 %)"),
        "profile": Param(settings.profile, enum=["world", "original"], title="Profile",
                         description="world: persistent customers and hard fraud; original: the first design's"),
        "seed": Param(settings.seed, type="integer", title="Seed of the simulated world", **limits("seed")),
        "history": Param(True, type="boolean", title="Publish the simulated history first",
                         description="does nothing when the topic has it already"),
    }  # fmt: skip
