"""Each benchmark measures work that is really done, and both of its sides do the same."""

from __future__ import annotations

import json
import random
from contextlib import contextmanager, nullcontext
from importlib import import_module

import psutil
import psycopg
import pytest
from click.testing import CliRunner

from include.bench import START, SUITES, customers, decode, generator, reasons, score, store, streams
from include.bench.compare import BenchmarkFailed
from include.bench.services import services
from include.cli import main
from include.events.transaction import decode as strict_decode
from include.generator.config import Config
from include.generator.profiles import simulation


def of(comparisons) -> dict[tuple[str, str], object]:
    by_name = {(comparison.what, comparison.other): comparison for comparison in comparisons}
    assert all(
        comparison.ours_microseconds > 0 and comparison.lowest <= comparison.ratio <= comparison.highest
        for comparison in by_name.values()
    )
    return by_name


def test_generator():
    comparisons = of(generator.measure(rounds=1, events=2_000))
    assert comparisons.keys() == {
        ("generator", "a loop of one record at a time"),
        ("generator", "a Faker record per event"),
    }
    columns = next(simulation(Config()).live(START)).events.column_names
    for key, value in (generator.faker_record()(), generator.plain_record(random.Random(1))):
        record = json.loads(value)
        assert list(record) == columns
        assert key.decode() == record["user_id"]


def test_without_faker_the_command_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(generator, "find_spec", {"faker": None}.get)
    result = CliRunner().invoke(main.cli, ["bench", "generator"])
    assert result.exit_code == 1 and "install it with: .venv/bin/uv pip install faker" in result.output


def asked_at_the_end(suite, monkeypatch, *queries: str) -> list[dict[int, tuple]]:
    """For each query, its rows by partition, filled in before the suite's PostgreSQL stops."""
    contents = [{} for _ in queries]

    @contextmanager
    def watched():
        with services() as settings:
            yield settings
            with psycopg.connect(settings.conninfo("owner")) as connection:
                for rows, query in zip(contents, queries, strict=True):
                    rows.update((row[0], row[1:]) for row in connection.execute(query))

    monkeypatch.setattr(suite, "services", watched)
    return contents


@pytest.mark.services
def test_reasons_are_given_on_one_side_only(monkeypatch):
    query = "select partition, count(*), avg(jsonb_array_length(reasons)) from shop.fraud_alerts group by 1"
    (stored,) = asked_at_the_end(reasons, monkeypatch, query)
    (comparison,) = of(reasons.measure(rounds=2, events=1_000)).values()
    assert (comparison.what, comparison.rounds) == ("score, 1.5% alerts", 2)
    assert stored[0][0] == stored[1][0] == pytest.approx(0.015 * 3_000, abs=5)
    assert stored[0][1] > 1 and stored[1][1] == 0


@pytest.mark.services
def test_each_side_has_the_customers_that_it_says(monkeypatch):
    counted = "select partition, count(*), count(distinct user_id) from shop.{} group by 1"
    queries = counted.format("user_state"), counted.format("fraud_scores")
    states, scores = asked_at_the_end(customers, monkeypatch, *queries)
    (comparison,) = of(customers.measure(rounds=1, events=300, few=20, many=3_000)).values()
    assert (comparison.ours, comparison.other) == ("3,000 customers", "20 customers")
    assert states == {0: (20, 20), 1: (3_000, 3_000)}  # none was made anew
    assert scores[0] == (600, 20)
    assert scores[1][0] == 600 and scores[1][1] > 500


def test_decode():
    comparisons = of(decode.measure(rounds=1, events=500))
    assert comparisons.keys() == {("decode", "json.loads and checks by hand"), ("decode", "pydantic")}


def test_all_decoders_accept_the_same_events_and_refuse_bad_ones():
    _, _, value = next(simulation(Config()).live(START)).transactions()[0]
    ours = strict_decode(value, decode.NOW, **decode.LIMITS).transaction
    by_hand, model = decode.checked_by_hand(value), decode.pydantic_model().model_validate_json(value)
    for name in ours.__struct_fields__:
        assert getattr(ours, name) == by_hand.get(name) == getattr(model, name), name
    for change in (
        {"amount": -1},
        {"user_id": None},
        {"latitude": 91},
        {"device": "x" * 257},
        {"timestamp": "noon"},
    ):
        bad = json.dumps(json.loads(value) | change).encode()
        for read in (decode.checked_by_hand, decode.pydantic_model().model_validate_json):
            with pytest.raises((ValueError, TypeError)):
                read(bad)


def test_score():
    assert of(score.measure(rounds=1, rows=500)).keys() == {
        ("score 1 row", "scikit-learn"),
        ("score 500 rows", "scikit-learn"),
    }


def test_command_shows_and_prints_json(monkeypatch):
    monkeypatch.setattr(score, "measure", lambda: measure_score(rounds=1, rows=300))
    result = CliRunner().invoke(main.cli, ["bench", "score", "--json"])
    printed = json.loads(result.stdout)
    assert [comparison["what"] for comparison in printed["comparisons"]] == ["score 1 row", "score 300 rows"]
    assert printed["cores"] >= 1 and result.stderr.startswith("measuring score")
    assert "Times faster" in CliRunner().invoke(main.cli, ["bench", "score"]).output


measure_score = score.measure


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_of_the_command_is_a_module_here(suite):
    assert callable(import_module(f"include.bench.{suite}").measure)


@pytest.mark.services
def test_store_writes_the_same_rows_on_both_sides_and_stops_its_server(monkeypatch):
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    written = []

    @contextmanager
    def watched():
        with services() as settings:
            yield settings
            with psycopg.connect(settings.conninfo("owner")) as connection:
                for table in ("shop.transactions", "bench.transactions"):
                    rows = f"select count(*), bit_xor(hashtextextended(transaction_id, 0)) from {table}"
                    written.append(connection.execute(rows).fetchone())

    monkeypatch.setattr(store, "services", watched)
    (comparison,) = of(store.measure(rounds=2, events=300)).values()
    assert (comparison.what, comparison.rounds) == ("store", 2)
    assert written[0] == written[1] and written[0][0] == 900  # with a first range that is not measured
    assert {process.pid for process in psutil.Process().children(recursive=True)} == before


@pytest.mark.services
def test_a_server_is_stopped_also_after_a_failure():
    with pytest.raises(ZeroDivisionError), services() as settings:
        home = settings.home
        with psycopg.connect(settings.conninfo("owner")) as connection:
            assert connection.execute("select count(*) from shop.transactions").fetchone() == (0,)
        raise ZeroDivisionError
    assert not home.exists()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(settings.conninfo("owner"))


def test_a_stream_that_ends_early_or_has_too_little_to_do_is_no_measurement():
    with pytest.raises(BenchmarkFailed, match="ended after 5 of 10"):
        streams._steady(lambda: 5, 10, lambda: False)
    with pytest.raises(BenchmarkFailed, match="10 events are too few"):
        streams._steady(lambda: 10, 10, lambda: True)
    steps = iter([0, 4, 7, 10])
    assert streams._steady(lambda: next(steps), 10, lambda: True) > 0


TABLES_OF_SIDES = (
    "shop.transactions",
    "shop.fraud_scores",
    "bench.transactions",
    "bench.stored",
    "bench.scored",
)


@pytest.mark.services
def test_streams_read_every_event_on_all_sides(spark, monkeypatch):
    rows, reset = {}, streams._reset

    def count(settings):
        with psycopg.connect(settings.conninfo("owner")) as connection:
            for table in TABLES_OF_SIDES:
                (count,) = connection.execute(f"select count(*) from {table}").fetchone()
                rows[table] = max(rows.get(table, 0), count)

    @contextmanager
    def counted_at_the_end(**options):
        with services(**options) as settings:
            yield settings
            count(settings)

    monkeypatch.setattr(streams, "_reset", lambda settings, name: count(settings) or reset(settings, name))
    monkeypatch.setattr(streams, "services", counted_at_the_end)
    monkeypatch.setattr(streams, "spark_session", lambda: nullcontext(spark))
    comparisons = streams.measure(rounds=1, events=4_000)
    assert {(comparison.ours, comparison.other) for comparison in comparisons} == {
        ("transaction_stream", "hand-written, stores"),
        ("fraud_stream", "hand-written, scores"),
        ("transaction_stream", "plain append"),
        ("fraud_stream", "plain append"),
    }
    assert rows.keys() == set(TABLES_OF_SIDES)
    assert len(set(rows.values())) == 1 and rows["shop.transactions"] > 3_500
