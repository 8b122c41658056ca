"""A mapping is suggested from a sample; what the sample leaves open is asked and never guessed."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from include.broker.kafka import client_config
from include.cli.main import cli
from include.events import mapping
from include.events.mapping import MappingError
from include.imports.importer import BadRow
from include.imports.sample import sample_file, sample_topic
from include.imports.sources import UnreadableFile
from include.imports.suggest import UnknownAnswer, from_options, suggest
from tests.generator.topics import own_topics
from tests.imports.layouts import AMERICAN, BANK, CARDS, GERMAN, MEANT, NESTED, NULLS, at


@pytest.fixture
def suggested(files):
    """The suggestion for a file's content, and the questions that stay open."""

    def run(name: str, content: str | bytes, encoding: str = "utf8", **answers: str):
        return suggest(sample_file(files.write(name, content, encoding)), from_options(answers))

    return run


def test_a_suggestion_says_what_each_field_is_and_what_is_not_used(suggested):
    content = "payment,customer,when,sum,currency,till\np1,c1,2026-01-01T10:00Z,1.5,EUR,7\n"
    content += "p2,c1,2026-01-02T10:00Z,2,EUR,7\n"
    assert suggested("a.csv", content).text.splitlines() == [
        "# Suggested from 2 rows of a.csv. Check each line.",
        "fields:",
        "  transaction_id: payment  # different in each row",
        "  user_id: customer",
        "  timestamp: when  # 2026-01-01T10:00Z, 2026-01-02T10:00Z",
        "  amount: sum  # 1.5, 2",
        "  currency: currency  # EUR",
        "# Not used: till",
    ]


def test_what_is_left_is_offered_as_fields_of_the_shops_own(files, suggested):
    content = "payment,customer,when,sum,old balance,channel,note,fixed\n" + "".join(
        f"p{i},c{i % 9},2026-01-{i + 1:02}T10:00Z,1.5,{1000 - 3 * i},{'web' if i % 3 else 'phone'},said {i},x\n"
        for i in range(30)
    )
    text = suggested("a.csv", content).text
    offer = [
        "# numbers:  # 4 at most; remove the signs in front to let scores use them",
        "#   old balance: old balance  # 1000, 997, 994",
        "# categories:  # 4 at most; remove the signs in front to let scores use them",
        "#   channel: channel  # phone, web",
    ]
    lines = text.splitlines()
    assert lines[6:] == [*offer, "# Not used: old balance, channel, note, fixed"]
    used = "\n".join(line.removeprefix("# ") if line in offer else line for line in lines)
    files.write("mapping.yaml", used)
    rules = mapping.load(files.folder / "mapping.yaml")
    assert rules.names == {"number_1": "old balance", "category_1": "channel"}


def test_a_field_that_no_column_looks_like_is_asked(files, suggested):
    result = suggested("a.csv", "x,y\n1,2\n")
    assert [question.key for question in result.open] == ["timestamp", "amount", "user_id"]
    with pytest.raises(MappingError, match="fields"):
        files.run(files.folder / "a.csv", result.text)


def test_columns_of_year_month_day_and_time_are_one_time(files, suggested):
    content = CARDS.replace("Y,M,D,Clock,Total,Scam?", "Year,Month,Day,Time,Amount,Is Fraud?").replace(
        "Person", "User"
    )
    result = suggested("cards.csv", content)
    files.run(files.folder / "cards.csv", result.text, skip_bad=True)
    assert files.payments == [
        ("cards-2", "7", at("2025-01-02T00:00"), "12.72"),
        ("cards-3", "7", at("2025-01-02T06:31"), "134.09"),
        ("cards-4", "8", at("2025-11-12T01:01"), "1"),
    ]
    assert "some are negative: sign: positive leaves refunds out" in result.text
    assert "times without an offset are taken as UTC" in result.text


def test_a_banks_export_is_understood_up_to_its_sign(files, suggested):
    content = BANK.replace("Tag;", "Buchungstag;").replace("Von;An;", "Auftraggeber;Empfänger;")
    result = suggested("bank.csv", content, "cp1252")
    assert 'csv: {encoding: cp1252, delimiter: ";", skip_lines: 4}' in result.text
    with pytest.raises(BadRow, match="line 6: amount: .*`sign: negative`"):
        files.run(files.folder / "bank.csv", result.text)
    files.run(files.folder / "bank.csv", result.text.replace('symbol: "€"', 'symbol: "€", sign: negative'))
    assert files.payments == [
        ("bank-6", "k-1", at("2025-12-27"), "1100.00"),
        ("bank-7", "k-1", at("2025-12-28"), "4.50"),
    ]


def test_signs_of_numbers_are_told_from_all_values(files, suggested):
    result = suggested("a.csv", GERMAN)
    files.run(files.folder / "a.csv", result.text)
    assert [digits for *_, digits in files.payments] == ["1200", "1234.50", "12345", "950.00"]


@pytest.mark.parametrize(
    ("answer", "digits"), [("thousands", ["1200", "2500"]), ("decimals", ["1.200", "2.500"])]
)
def test_signs_that_may_mean_two_things_are_asked(files, suggested, answer, digits):
    unanswered = suggested("a.csv", AMERICAN)
    (question,) = unanswered.open
    assert question.key == "amount" and set(question.answers) == {"thousands", "decimals"}
    with pytest.raises(MappingError, match="missing required field `amount`"):
        files.run(files.folder / "a.csv", unanswered.text)
    result = suggested("a.csv", AMERICAN, amount=answer)
    files.run(files.folder / "a.csv", result.text)
    assert [payment[3] for payment in files.payments] == digits and result.open == []


DAYS = "id,user,date,sum\n" + "".join(f"{i},u,0{i}/02/2026 08:30,1.5\n" for i in range(1, 9))


def test_the_order_of_day_and_month_is_asked_unless_the_sample_shows_it(files, suggested):
    unanswered = suggested("a.csv", DAYS)
    assert [question.key for question in unanswered.open] == ["timestamp"]
    with pytest.raises(MappingError, match="missing required field `timestamp`"):
        files.run(files.folder / "a.csv", unanswered.text)
    for answer, first in (("day-first", "2026-02-01T08:30"), ("month-first", "2026-01-02T08:30")):
        result = suggested("a.csv", DAYS, timestamp=answer)
        files.run(files.folder / "a.csv", result.text)
        assert files.payments[0][2] == at(first)
    with pytest.raises(UnknownAnswer, match="timestamp: 'perhaps' is none of day-first, month-first"):
        suggested("a.csv", DAYS, timestamp="perhaps")
    clear = suggested("a.csv", DAYS + "9,u,28/02/2026 08:30,1.5\n")
    assert clear.open == [] and 'format: "%d/%m/%Y %H:%M"' in clear.text


def test_later_rows_of_a_file_in_order_of_time_tell_the_order_of_day_and_month(suggested):
    content = "id,user,date,sum\n" + "".join(
        f"{i},u,{1 + i // 250:02}/02/2026 08:30,1.5\n" for i in range(7_000)
    )
    result = suggested("a.csv", content)
    assert result.open == [] and 'format: "%d/%m/%Y %H:%M"' in result.text


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-02-03T08:30:00Z", "2026-02-03T08:30"),
        ("2026-02-03 08:30", "2026-02-03T08:30"),
        ("2026/02/23 08:30:15", "2026-02-23T08:30:15"),
        ("23.02.26 08:30", "2026-02-23T08:30"),
        ("02/23/2026 8:30 PM", "2026-02-23T20:30"),
        ("1795708017", "2026-11-26T15:46:57"),
        ("1795708017869", "2026-11-26T15:46:57.869"),
        ("1795708017869362", "2026-11-26T15:46:57.869362"),
        ("1795708017869362000", "2026-11-26T15:46:57.869362"),
    ],
)
def test_times(files, suggested, written, meant):
    result = suggested("a.csv", f"id,user,created,sum\n1,u,{written},1.5\n")
    files.run(files.folder / "a.csv", result.text)
    assert result.open == [] and files.payments[0][2] == at(meant)


def test_a_date_and_a_time_of_day_are_one_time(files, suggested):
    result = suggested(
        "a.csv", "id,user,date,clock,sum\n1,u,2026-02-03,08:30:00,1.5\n2,u,2026-02-03,09:30:00,1.5\n"
    )
    files.run(files.folder / "a.csv", result.text)
    assert files.payments[1][2] == at("2026-02-03T09:30")


def test_words_for_missing_values_are_listed(files, suggested):
    result = suggested("a.csv", NULLS)
    assert 'missing: ["N/A", "NULL", "NaN", "None", "\\\\N"]' in result.text
    assert files.run(files.folder / "a.csv", result.text, skip_bad=True).transactions == 2


def test_minor_units_are_asked(files, suggested):
    rows = [{"id": i, "customer": "u", "created": 1795708017, "amount": sum_, "currency": code}
            for i, (sum_, code) in enumerate([(1250, "usd"), (5000, "JPY"), (12500, "kwd")])]  # fmt: skip
    content = "".join(json.dumps(row) + "\n" for row in rows)
    assert [question.key for question in suggested("a.jsonl", content).open] == ["unit"]
    for answer, digits in (("minor", ["12.50", "5000", "12.500"]), ("main", ["1250", "5000", "12500"])):
        files.run(files.folder / "a.jsonl", suggested("a.jsonl", content, unit=answer).text)
        assert [payment[3] for payment in files.payments] == digits


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_values_within_records_are_found(files, suggested, kind):
    record, (_, user, time, _) = NESTED[0], MEANT[0]
    if kind == "parquet":
        pa.parquet.write_table(pa.Table.from_pylist([record]), files.folder / "a.parquet")
        result = suggest(sample_file(files.folder / "a.parquet"), from_options({}))
    else:
        result = suggested("a.jsonl", json.dumps(record) + "\n")
    files.run(files.folder / f"a.{kind}", result.text)
    assert files.payments == [("p-1", user, time, "1.5")]


def test_labels_and_what_is_not_known_yet(suggested):
    content = "id,user,when,sum,chargeback\n" + "".join(
        f"{i},u,2026-01-01,1,{value}\n"
        for i, value in enumerate(["yes", "no", "open", "no", "no", "no", "no", ""])
    )
    text = suggested("a.csv", content).text
    assert 'fraud: ["yes"]' in text and 'honest: ["no"]' in text and 'unknown: ["open"]' in text


def test_a_file_without_a_header_gets_names(files, suggested):
    result = suggested("a.csv", "7,2026-01-01T10:00,12.50\n8,2026-01-02T10:00,13.50\n")
    assert "csv: {columns: [" in result.text
    assert {question.key for question in result.open} >= {"user_id", "amount"}


def test_whatever_the_names_and_values_are_the_suggestion_is_yaml(files, suggested, tmp_path):
    content = 'id,"a: b",{c},"d\x07",\'e\',#f,user,when,sum\n' + "1,\x08,{x},# y,&z,*w,u,2026-01-01,1\n"
    result = suggested("a.csv", content)
    path = tmp_path / "m.yaml"
    path.write_text(result.text)
    assert list(mapping.load(path).fields) == ["transaction_id", "user_id", "timestamp", "amount"]


def test_what_has_no_rows_is_refused(files):
    for content in ("id,user\n", ""):
        with pytest.raises(UnreadableFile):
            sample_file(files.write("a.csv", content))


def test_the_command_writes_a_mapping_and_exits_with_1_while_a_question_is_open(files, monkeypatch):
    path = str(files.write("a.csv", DAYS))
    result = CliRunner().invoke(cli, ["mapping", "suggest", path])
    assert (
        result.exit_code == 1
        and "--answer timestamp=day-first or --answer timestamp=month-first" in result.stderr
    )
    output = files.folder / "mapping.yaml"
    arguments = ["mapping", "suggest", path, "--answer", "timestamp=day-first", "--output", str(output)]
    result = CliRunner().invoke(cli, arguments)
    assert (
        result.exit_code == 0
        and f"Next: fraudstream import {path} --mapping {output} --dry-run" in result.stderr
    )
    assert mapping.load(output)
    result = CliRunner().invoke(cli, ["mapping", "suggest", str(files.folder / "absent.csv")])
    assert "no such file" in str(result.exception)


@pytest.mark.services
def test_a_topic_is_sampled(kafka):
    settings = own_topics(kafka)
    producer = Producer(client_config(settings))
    for record in (NESTED[1], NESTED[1], "no record"):
        producer.produce(settings.transactions_topic, json.dumps(record))
    producer.flush()
    result = suggest(sample_topic(settings, settings.transactions_topic), from_options({}))
    assert "timestamp: {column: after.at, since: 1970-01-01, unit: milliseconds}" in result.text
    assert [question.key for question in result.open] == ["transaction_id"]  # both records have the same id
    with pytest.raises(UnreadableFile, match="no record that is a JSON object"):
        sample_topic(settings, settings.labels_topic)
