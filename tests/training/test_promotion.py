"""A version becomes champion by the documented command, verified like any other."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from uuid import uuid4

import pytest

from include.registry import aliases
from include.settings import PROJECT_ROOT, Settings
from include.training import promotion
from include.training.promotion import PromotionRefused
from tests.registered import register

pytestmark = pytest.mark.services


@pytest.fixture
def shop(clean_postgres: Settings, mlflow_server: Settings, tmp_path) -> Settings:
    return clean_postgres.model_copy(update={"model_name": f"model-{uuid4().hex}", "home": tmp_path})


def test_the_documented_command_promotes_a_version(shop):
    document = (PROJECT_ROOT / "docs" / "models.md").read_text()
    (command,) = re.findall(r"`(\.venv/bin/python -c .*promotion.*)`", document)
    _, *arguments = shlex.split(command)
    code = arguments[-1].replace("3)", f"{register(shop).version})")
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, env=os.environ | shop.as_environment(),
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert aliases.champion(shop).version == 1


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
