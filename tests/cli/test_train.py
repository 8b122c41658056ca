"""`fraudstream train` trains any family, and says what became of the model or why there is none."""

from __future__ import annotations

import json
import re
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner, Result

from include.cli import main, models
from include.models.families import FAMILIES
from include.registry import aliases
from include.settings import Settings
from include.training.split import MIN_FRAUDS
from tests import stored_world


@pytest.fixture
def shop(clean_postgres: Settings, mlflow_server: Settings, tmp_path) -> Settings:
    stored_world.fill(clean_postgres, history_events=4_000, fraud_rate=0.05)
    return clean_postgres.model_copy(update={"model_name": f"model-{uuid4().hex}", "home": tmp_path})


def train(monkeypatch: pytest.MonkeyPatch, settings: Settings, *arguments: str) -> Result:
    monkeypatch.setattr(models, "load", lambda: settings)
    return CliRunner().invoke(main.cli, ["train", *arguments])


@pytest.mark.services
def test_each_family_is_trained_and_a_champion_is_named(shop, monkeypatch):
    for number, family in enumerate(FAMILIES, start=1):
        result = train(monkeypatch, shop, "--family", family, "--trees", "20", "--json")
        assert result.exit_code == 0, result.output
        summary = json.loads(result.stdout)
        assert (summary["measured_by"], summary["version"]) == (2 * number - 1, 2 * number)
        assert (summary["family"], [*summary["compared"]]) == (family, [family])
    families = [known.family for known in aliases.versions(shop)]
    assert families == [family for family in [*FAMILIES][::-1] for _ in range(2)]


@pytest.mark.services
def test_a_person_reads_what_became_of_the_model(shop, monkeypatch):
    result = train(monkeypatch, shop, "--trees", "20", "--alert-rate", "0.02")
    first, second, decisions, compared, measured, third = result.output.splitlines()
    assert re.fullmatch(
        r"Version 2 \((isolation_forest|gradient_boosting)\) is champion: the first model", first
    )
    assert "transactions with recomputed features, from" in second and "threshold 0." in second
    assert re.match(r"Expected a day: [\d,]+ alerts of [\d,]+ payments \(", decisions)
    assert re.search(r"families on the later .*: isolation_forest 0\.\d+, gradient_boosting 0\.\d+", compared)
    assert measured.startswith("Measured by version 1, the same recipe, which learned from")
    assert third.startswith("On ") and "average precision 0." in third and "recall 0." in third


@pytest.mark.services
def test_few_labels_leave_the_forest_and_say_why(shop, monkeypatch):
    with psycopg.connect(shop.conninfo("owner")) as connection:
        connection.execute("truncate shop.fraud_transactions")
    result = train(monkeypatch, shop, "--trees", "20")
    assert "(isolation_forest) is champion" in result.output
    assert (
        f"Left out: gradient_boosting. A family that learns from labels needs {MIN_FRAUDS} frauds"
        in result.output
    )


@pytest.mark.services
def test_what_is_missing_is_one_message(clean_postgres, mlflow_server, monkeypatch):
    result = train(monkeypatch, clean_postgres)
    assert result.exit_code == 1
    assert str(result.exception) == (
        "fraudstream train: shop.transactions is empty: start the producer and the streams first"
    )


@pytest.mark.parametrize(
    "arguments",
    [("--family", "oracle"), ("--trees", "9"), ("--trees", "2001"), ("--alert-rate", "-0.1"),
     ("--alert-rate", "0.5"), ("--window-days", "0"), ("--window-days", "1.5")],
    ids=" ".join,
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused_before_anything_is_read(monkeypatch, tmp_path, arguments):
    settings = Settings(_env_file=None, home=tmp_path, postgres_port=1)
    result = train(monkeypatch, settings, *arguments)
    assert result.exit_code == 2 and f"Invalid value for '{arguments[0]}'" in result.output
