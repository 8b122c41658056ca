"""`fraudstream model` shows, promotes and rolls back, and what status advises is done with it."""

from __future__ import annotations

import json
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner

from include.cli import main, models
from include.platform.status import promotion_problems
from include.registry import aliases, promotions, rest
from include.settings import Settings
from tests.registered import register
from tests.tampering import point_champion_at

pytestmark = pytest.mark.services


@pytest.fixture
def shop(clean_postgres: Settings, mlflow_server: Settings, tmp_path) -> Settings:
    return clean_postgres.model_copy(update={"model_name": f"model-{uuid4().hex}", "home": tmp_path})


@pytest.fixture
def run(shop, monkeypatch):
    monkeypatch.setattr(models, "load", lambda: shop)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main.cli, ["model", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def problems(shop: Settings) -> list[str]:
    with psycopg.connect(shop.conninfo("owner")) as connection:
        return promotion_problems(promotions.read(connection))


def test_a_version_is_promoted_and_taken_back(shop, run):
    first, second = register(shop).version, register(shop).version
    run("promote", str(first), "--reason", "begin")
    assert "Version 2 is champion; the stream scores with it within 15 s" in run(
        "promote", str(second), "--reason", "it looks better"
    )
    assert f"Version {first} is champion again" in run("rollback", "--reason", "it was not")
    listed = json.loads(run("list", "--json"))
    assert [(known["version"], known["aliases"]) for known in listed["versions"]] == [
        (2, []),
        (1, ["champion"]),
    ]
    assert [row["kind"] for row in listed["promotions"]] == ["rollback", "promotion", "promotion"]
    shown = run("list", "-n", "1")
    assert "rollback: version 1 in place of version 2" in shown and "it was not" in shown
    assert "with fraudstream model rollback" in shown and "it looks better" not in shown


def test_a_champion_set_in_mlflow_is_a_problem_until_it_is_taken_on_or_back(shop, run):
    first, second = register(shop).version, register(shop).version
    aliases.set_champion(shop, first)
    point_champion_at(shop, second)
    run("list")
    (problem,) = problems(shop)
    assert (
        "version 2 was made champion in MLflow itself" in problem and "fraudstream model promote 2" in problem
    )
    run("promote", "2", "--reason", "it is right")
    assert problems(shop) == []
    point_champion_at(shop, first)
    run("list")
    assert "fraudstream model rollback" in problems(shop)[0]
    run("rollback", "--reason", "nobody asked")
    assert problems(shop) == [] and rest.version_by_alias(shop)["champion"] == second


def test_what_cannot_be_done_is_one_line(shop, run, monkeypatch):
    result = CliRunner().invoke(main.cli, ["model", "rollback", "--reason", "none"])
    assert result.exit_code == 1
    assert "fraudstream model rollback: there is no earlier champion to go back to" in result.output
    result = CliRunner().invoke(main.cli, ["model", "promote", "7", "--reason", "none"])
    assert result.exit_code == 1 and "version 7" in result.output and "not in shop.models" in result.output
