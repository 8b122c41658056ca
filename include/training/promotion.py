"""Whether a model may become champion now, the way by which it does, and the way back."""

from __future__ import annotations

from dataclasses import replace

import psycopg

from include.features.behaviour import FEATURE_SET
from include.registry import aliases, promotions
from include.registry.promotions import Cause
from include.settings import Role, Settings
from include.sql import one_row, statement
from include.training.feature_differences import FeatureDifference


class PromotionRefused(RuntimeError):
    """No model may become champion now; the message says why and what to do."""


def promote(
    settings: Settings,
    version: int,
    role: Role = "trainer",
    *,
    cause: Cause = aliases.UNNAMED,
    despite_parity: bool = False,
) -> None:
    """Makes a version the champion, after verifying it as a scorer would; it is no longer the challenger.

    Args:
        cause: for the ledger; what it says of parity is filled in here.
        despite_parity: also when logged features were found to differ, or were never compared; for an emergency.

    Raises:
        RegistryUnavailable, ModelRejected: as `include.registry.loading.load_scorer`; the alias is unchanged then.
        PromotionRefused: see `obstacle`; likewise.
    """
    reason = obstacle(settings, role)
    if reason and not despite_parity:
        raise PromotionRefused(f"version {version} does not become champion: {reason}")
    aliases.set_champion(settings, version, role, replace(cause, parity="passed over" if reason else "clean"))


def roll_back(settings: Settings, actor: str, reason: str, role: Role = "trainer") -> int:
    """Makes the previous champion the champion again and returns its version; parity is not asked.

    The previous champion is the one before the present one that was not rolled back itself: two rollbacks go back by
    two champions.

    Raises:
        RegistryUnavailable, ModelRejected: as `promote`.
        PromotionRefused: the ledger has no earlier champion.
    """
    aliases.notice(settings, role)
    with psycopg.connect(settings.conninfo(role)) as connection:
        version = promotions.previous(promotions.read(connection))
    if version is None:
        raise PromotionRefused(
            "there is no earlier champion to go back to; `fraudstream model list` shows the versions, and "
            "`fraudstream model promote VERSION` makes one champion"
        )
    aliases.set_champion(settings, version, role, Cause(actor, reason, kind="rollback", mode="human"))
    return version


def obstacle(settings: Settings, role: Role = "trainer") -> str:
    """Why no version may become champion now, in words; empty when one may.

    A mismatch in the last parity check of the present feature set is an obstacle. So is it when no check has compared
    any vector of that set although the stream logs such. Before the stream logs any there is nothing to compare.
    """
    with psycopg.connect(settings.conninfo(role)) as connection:
        logged, checked_at, mismatches = one_row(
            connection.execute(statement("parity/last"), {"feature_set": FEATURE_SET})
        )
    if mismatches:
        named = "; ".join(str(FeatureDifference(**mismatch)) for mismatch in mismatches)
        return (
            f"the parity check of {checked_at:%Y-%m-%d %H:%M} UTC found features that differ from the logged ones "
            f"({named}): fix that, then run the DAG parity"
        )
    if logged and checked_at is None:
        return (
            f"no parity check has compared the logged features of set {FEATURE_SET} yet: run the DAG parity"
        )
    return ""
