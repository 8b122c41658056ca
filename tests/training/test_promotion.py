"""A version becomes champion only while the parity gate is open, or when somebody passes it over."""

from __future__ import annotations

from uuid import uuid4

import pytest

from include.registry import aliases
from include.settings import Settings
from include.training import promotion
from include.training.promotion import PromotionRefused
from tests.registered import register

pytestmark = pytest.mark.services


@pytest.fixture
def shop(clean_postgres: Settings, mlflow_server: Settings, tmp_path) -> Settings:
    return clean_postgres.model_copy(update={"model_name": f"model-{uuid4().hex}", "home": tmp_path})


def test_an_obstacle_is_named_and_can_be_passed_over(shop, monkeypatch):
    first, second = register(shop).version, register(shop).version
    promotion.promote(shop, first)
    monkeypatch.setattr(promotion, "obstacle", lambda *_: "the growth differs")
    with pytest.raises(
        PromotionRefused, match=f"version {second} does not become champion: the growth differs"
    ):
        promotion.promote(shop, second)
    assert aliases.champion(shop).version == first
    promotion.promote(shop, second, despite_parity=True)
    assert aliases.champion(shop).version == second
