"""The ledger of promotions, on a real MLflow server and PostgreSQL: whoever changes the champion stands in it."""

from __future__ import annotations

import os
import subprocess
import sys

import psycopg
import pytest

from include.registry import aliases, promotions, rest
from include.registry.promotions import Cause
from include.settings import PROJECT_ROOT, Settings
from include.streams.current_model import CurrentModel
from include.training import promotion
from include.training.promotion import PromotionRefused
from tests.registered import register
from tests.stream_runs import until
from tests.tampering import point_champion_at

pytestmark = pytest.mark.services


def ledger(shop: Settings) -> list[promotions.Promotion]:
    with psycopg.connect(shop.conninfo("app")) as connection:
        return promotions.read(connection)


def rows(shop: Settings) -> list[tuple[object, ...]]:
    """kind, from, to and outcome of each row, oldest first."""
    return [(row.kind, row.from_version, row.version, row.done) for row in reversed(ledger(shop))]


def test_a_promotion_says_who_what_and_why(shop):
    first, second = register(shop).version, register(shop).version
    promotion.promote(shop, first, cause=Cause("a retraining", "the first model"))
    promotion.promote(shop, second, cause=Cause("Ada", "tried by hand", mode="human", evidence="a" * 64))
    newest, oldest = ledger(shop)
    assert (oldest.from_version, oldest.version, oldest.done, oldest.mode) == (None, first, True, "auto")
    assert (newest.from_version, newest.version, newest.actor, newest.reason, newest.mode, newest.parity,
            newest.evidence) == (first, second, "Ada", "tried by hand", "human", "clean", "a" * 64)  # fmt: skip


def test_nobody_changes_the_ledger(shop):
    promotion.promote(shop, register(shop).version)
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as owner:
        for change in (
            "update shop.promotions set reason = 'another'",
            "delete from shop.promotions",
            "update shop.promotion_outcomes set done = false",
            "delete from shop.promotion_outcomes",
        ):
            with pytest.raises(psycopg.errors.RaiseException, match="only grows"):
                owner.execute(change)
    assert len(ledger(shop)) == 1


# Ends the process at one moment of a promotion: before the alias is asked for, before it is set, and after.
KILLED = """
import os, sys
from include.registry import aliases, rest
from include.settings import load
real, moment = rest.call, sys.argv[2]
def call(settings, method, path, **content):
    if method != "POST":
        return real(settings, method, path, **content)
    if moment == "after":
        real(settings, method, path, **content)
    os.kill(os.getpid(), 9)
rest.call = call
aliases.set_champion(load(), int(sys.argv[1]))
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_any_moment_the_ledger_tells_which_version_is_champion(shop, moment):
    first, second = register(shop).version, register(shop).version
    aliases.set_champion(shop, first)
    done = subprocess.run([sys.executable, "-c", KILLED, str(second), moment], cwd=PROJECT_ROOT, check=False,
                          env=os.environ | shop.as_environment())  # fmt: skip
    assert done.returncode == -9
    assert rows(shop)[-1] == ("promotion", first, second, None)
    aliases.notice(shop, "stream_writer")
    champion = second if moment == "after" else first
    assert rest.version_by_alias(shop)["champion"] == champion
    assert rows(shop) == [
        ("promotion", None, first, True), ("promotion", first, second, champion == second),
    ]  # fmt: skip


def test_the_stream_notices_an_alias_that_was_moved_in_mlflow(shop):
    first, second = register(shop).version, register(shop).version
    aliases.set_champion(shop, first)
    model = CurrentModel(shop.model_copy(update={"champion_poll_seconds": 0.05}))
    try:
        until(lambda: model.scorer is not None)
        point_champion_at(shop, second)
        until(lambda: len(ledger(shop)) == 2)
        until(lambda: model.scorer.version == second)
    finally:
        model.close()
    newest = ledger(shop)[0]
    assert (newest.kind, newest.from_version, newest.version, newest.parity) == (
        "by hand", first, second, "not asked",
    )  # fmt: skip


def test_a_champion_that_is_older_than_the_ledger_and_one_that_was_removed_are_entered(shop):
    version = register(shop).version
    point_champion_at(shop, version)
    aliases.notice(shop, "trainer")
    aliases.notice(shop, "trainer")
    rest.call(shop, "DELETE", "registered-models/alias", json={"name": shop.model_name, "alias": "champion"})
    aliases.notice(shop, "trainer")
    assert rows(shop) == [("found", None, version, True), ("by hand", version, None, True)]
    assert promotion.roll_back(shop, "Ada", "who removed it?") == version


def test_rolling_back_goes_back_champion_by_champion(shop):
    first, second, third = (register(shop).version for _ in range(3))
    with pytest.raises(PromotionRefused, match="no earlier champion"):
        promotion.roll_back(shop, "Ada", "nothing to go back to")
    for version in (first, second, third):
        promotion.promote(shop, version)
    assert promotion.roll_back(shop, "Ada", "too many alerts") == second
    assert promotion.roll_back(shop, "Ada", "still too many") == first
    assert rest.version_by_alias(shop)["champion"] == first
    assert [(row.kind, row.actor, row.reason) for row in ledger(shop)[:2]] == [
        ("rollback", "Ada", "still too many"), ("rollback", "Ada", "too many alerts"),
    ]  # fmt: skip
    with pytest.raises(PromotionRefused, match="no earlier champion"):
        promotion.roll_back(shop, "Ada", "once too often")
    promotion.promote(shop, third)
    assert promotion.roll_back(shop, "Ada", "no better today") == first


def test_rolling_back_is_possible_while_parity_is_broken(shop, monkeypatch):
    first, second = register(shop).version, register(shop).version
    promotion.promote(shop, first)
    promotion.promote(shop, second)
    monkeypatch.setattr(promotion, "obstacle", lambda *_: "the growth differs")
    assert promotion.roll_back(shop, "Ada", "quick") == first
    assert ledger(shop)[0].parity == "not asked"
