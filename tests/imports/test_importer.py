"""Files go to a real Kafka in order of event time, with their labels when they became known."""

from __future__ import annotations

import random
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Event

import msgspec
import psycopg
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient, NewTopic

from include.broker.kafka import TopicMissing, client_config, end_offsets, ensure_topics
from include.cli import data, main
from include.events.label import decode_label
from include.events.mapping import MappingError
from include.events.transaction import decode
from include.features import extra_fields
from include.generator import files
from include.generator.config import Config
from include.generator.world import World
from include.imports import external_sort, importer
from include.imports.importer import BadRow, import_events
from include.settings import PROJECT_ROOT, Settings
from tests.generator.topics import own_topics, read_all
from tests.waiting import PATIENCE

START = datetime(2026, 10, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LIMITS = {"max_bytes": 65_536, "future_tolerance": timedelta(minutes=5)}
MAPPING = """
fields: {transaction_id: id, user_id: user, timestamp: at, amount: sum, device: phone}
label: {column: bad, fraud: ["1"], honest: ["0"]}
"""
GOOD = "t{0},user-{1},2026-10-{2:02}T08:00:00Z,{0}.50,phone,{3}"


def rows(count: int) -> list[str]:
    """One row a day and customer, of which every fourth is fraud."""
    return [GOOD.format(i, i % 3, i + 1, int(i % 4 == 0)) for i in range(count)]


@pytest.fixture
def case(tmp_path):
    """Writes a file and its mapping, and imports it."""

    class Case:
        settings = Settings(_env_file=None, home=tmp_path / "home")
        path, mapping = tmp_path / "shop.csv", tmp_path / "mapping.yaml"

        def write(
            self, lines: list[str], header: str = "id,user,at,sum,phone,bad", mapping: str = MAPPING
        ) -> None:
            self.path.write_text("\n".join([header, *lines]) + "\n")
            self.mapping.write_text(mapping)

        def check(self, **options) -> importer.Report:
            return self.run(dry_run=True, **options)

        def run(self, **options) -> importer.Report:
            return import_events(self.settings, self.path, self.mapping, **{"clock": lambda: NOW, **options})

    return Case()


@pytest.fixture
def shop(case, kafka):
    case.settings = own_topics(kafka, kafka_partitions=1)
    return case


def transactions(settings: Settings) -> list:
    return [
        decode(message.value(), NOW, **LIMITS).transaction
        for message in read_all(settings, settings.transactions_topic)
    ]


def labels(settings: Settings) -> list:
    return [
        decode_label(message.value(), NOW, **LIMITS) for message in read_all(settings, settings.labels_topic)
    ]


# Checking, without Kafka


def test_a_dry_run_counts_and_sends_nothing(case):
    case.write(rows(8))
    report = case.check()
    assert (report.transactions, report.labels, report.frauds, report.bad_rows) == (8, 8, 2, 0)
    assert (report.first, report.last) == (START.replace(hour=8), START.replace(day=8, hour=8))
    assert report.sent_transactions == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",u,2026-10-01,1,p,0", "line 4: transaction_id: column 'id': missing"),
        ("t,,2026-10-01,1,p,0", "line 4: user_id: column 'user': missing"),
        ("t,u,,1,p,0", "line 4: timestamp: column 'at': missing"),
        ("t,u,2026-10-01,,p,0", "line 4: amount: column 'sum': missing or null"),
        (
            "t,u,2026-10-01,1.0051,p,0",
            "line 4: amount: column 'sum': more than 2 decimals (it is '1.0051'); add `round",
        ),
        (
            "t,u,2026-10-01,-1,p,0",
            "line 4: amount: column 'sum': not between 0 and 9999999999.99 (it is '-1')",
        ),
        ("t,u,2026-10-01,one,p,0", "line 4: amount: column 'sum' is no number (it is 'one')"),
        ("t,u,01.10.2026,1,p,0", "line 4: timestamp: column 'at' is not a time as ISO 8601 writes it"),
        (
            "t,u,2027-10-01,1,p,0",
            "line 4: timestamp: column 'at': too far in the future (it is '2027-10-01 00:00:00",
        ),
        ("t,u,1970-01-01,1,p,0", "line 4: timestamp: column 'at': before the year 2000"),
        (
            f"{'t' * 129},u,2026-10-01,1,p,0",
            "line 4: transaction_id: column 'id': expected `str` of length <= 128",
        ),
        (" ,u,2026-10-01,1,p,0", "line 4: transaction_id or user_id: only white space"),
        (
            "t,u,2026-10-01,1,p,2",
            "line 4: label: column 'bad' is in none of fraud, honest, unknown (it is '2')",
        ),
        ("t,u,2026-10-01,1,p", "line 4: has 5 columns, the file has 6"),
        ("t,u,2026-10-01,1,\0,0", "line 4: a text contains the character NUL"),
    ],
)
def test_a_bad_row_is_named_or_counted(case, row, message):
    case.write([*rows(2), row, *rows(6)[2:]])
    with pytest.raises(BadRow) as error:
        case.check()
    assert message in str(error.value) and "--skip-bad" in str(error.value)
    report = case.check(skip_bad=True)
    assert (report.transactions, report.bad_rows, len(report.examples)) == (6, 1, 1)
    assert message in report.examples[0]


def test_a_file_in_another_encoding_is_a_bad_row(case):
    case.write([])
    case.path.write_bytes(case.path.read_bytes() + b"t,u,2026-10-01,1,T\xe9l\xe9phone,0\n")
    with pytest.raises(BadRow, match="line 2: not UTF-8; give the file's encoding as csv.encoding"):
        case.check()
    case.mapping.write_text(MAPPING + "csv: {encoding: latin-1}")
    assert case.check().transactions == 1


def test_only_some_bad_rows_are_shown(case):
    case.write(["t,u,2026-10-01,x,p,0"] * 20 + rows(1))
    report = case.check(skip_bad=True)
    assert (report.bad_rows, len(report.examples)) == (20, importer.EXAMPLES)


def test_a_column_that_there_is_not_is_named(case):
    case.write(rows(1), header="id,user,at,summe,phone,bad")
    with pytest.raises(MappingError, match="fields.amount: there is no column 'sum', did you mean 'summe'"):
        case.check()


def test_the_documented_example_is_imported_as_it_says(case):
    text = (PROJECT_ROOT / "docs" / "import.md").read_text()
    case.path.write_text(re.search(r"```csv\n(.*?)```", text, re.DOTALL)[1])
    case.mapping.write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    report = case.check()
    assert (report.transactions, report.labels, report.frauds, report.bad_rows) == (2, 2, 1, 0)
    assert report.first == datetime(2026, 11, 24, 7, 0, 0, 250_000, UTC)


# Publishing


FOREIGN = ["payment", "customer", "when", "cents", "shop", "branch", "land", "phone", "chargeback", "kind"]


def foreign(path, events: int = 3_000) -> pa.Table:
    """Writes docs/import.md's example at length from generated transactions; returns those."""
    world = World(Config(customers=200, merchants=50, fraud_rate=0.05))
    original = path.with_suffix(".parquet")
    files.write(world.between(START, START + timedelta(days=20), events=events), original)
    table = pa.parquet.read_table(original)
    given = table.to_pydict()
    berlin = timedelta(hours=2)  # in October 2026 until the 25th
    columns = [
        given["transaction_id"],
        given["user_id"],
        [(at + berlin).strftime("%d.%m.%Y %H:%M:%S.%f") for at in given["timestamp"]],
        [round(amount * 100) for amount in given["amount"]],
        [merchant.removeprefix("merchant_") for merchant in given["merchant_id"]],
        given["merchant_category"],
        given["transaction_location"],
        given["device"],
        [str(int(fraud)) for fraud in given["is_fraud"]],
        given["scenario_id"],
    ]
    order = list(range(len(table)))
    random.Random(1).shuffle(order)
    pa.csv.write_csv(pa.table(dict(zip(FOREIGN, columns, strict=True))).take(order), path)
    return table


@pytest.mark.services
def test_another_shops_file_arrives_whole_in_order_of_time_with_its_labels(shop, monkeypatch):
    monkeypatch.setattr(external_sort, "RUN_ITEMS", 1_000)
    table = foreign(shop.path)
    document = (PROJECT_ROOT / "docs" / "import.md").read_text()
    shop.mapping.write_text(re.search(r"```yaml\n(.*?)```", document, re.DOTALL)[1])
    assert shop.path.read_text().splitlines()[0].replace('"', "") == re.search(r"```csv\n(.*)", document)[1]
    report = shop.run(label_delay=timedelta(days=3))
    assert (
        report.sent_transactions == report.sent_labels == len(table) == 3_000 and report.unacknowledged == 0
    )

    sent = transactions(shop.settings)
    assert all(one.timestamp <= other.timestamp for one, other in pairwise(sent))
    given = {row["transaction_id"]: row for row in table.to_pylist()}
    for transaction in sent:
        row = given.pop(transaction.transaction_id)
        same = ("user_id", "timestamp", "amount", "merchant_category", "transaction_location", "device")
        assert [getattr(transaction, name) for name in same] == [row[name] for name in same]
        assert (
            transaction.merchant_id == row["merchant_id"].replace("merchant_", "shop-")
            and transaction.currency == "EUR"
        )
        assert transaction.email is None
    assert not given
    known = labels(shop.settings)
    truth = dict(zip(table["transaction_id"].to_pylist(), table["is_fraud"].to_pylist(), strict=True))
    assert {label.transaction_id: label.is_fraud for label in known} == truth
    assert all(label.known_at == label.timestamp + timedelta(days=3) for label in known)
    assert {label.scenario_id for label in known if not label.is_fraud} == {None}
    merchants = dict(zip(table["transaction_id"].to_pylist(), table["merchant_id"].to_pylist(), strict=True))
    assert {label.transaction_id: label.merchant_id for label in known} == {
        key: value.replace("merchant_", "shop-") for key, value in merchants.items()
    }
    assert Counter(label.scenario_id for label in known)["large_amount"] > 0


@pytest.mark.services
def test_keys_are_customers_and_no_event_says_fraud(shop):
    shop.write(rows(6))
    shop.run()
    for topic in (shop.settings.transactions_topic, shop.settings.labels_topic):
        for message in read_all(shop.settings, topic):
            assert message.key().decode() == msgspec.json.decode(message.value())["user_id"]
    for message in read_all(shop.settings, shop.settings.transactions_topic):
        assert b"is_fraud" not in message.value()


OWN_FIELDS = """
fields: {transaction_id: id, user_id: user, timestamp: at, amount: sum}
numbers: {balance before: {column: had, decimal: ","}, days known: days}
categories: {domain: mail}
label: {column: bad, fraud: ["1"], honest: ["0"]}
"""


@pytest.mark.services
def test_own_numbers_and_categories_are_sent_and_their_names_are_kept(shop, clean_postgres):
    shop.settings = clean_postgres.model_copy(
        update={name: getattr(shop.settings, name) for name in ("transactions_topic", "labels_topic")}
    )
    header = "id,user,at,sum,had,days,mail,bad"
    lines = ['t1,u,2026-10-01T08:00:00Z,1,"-12,5",3,post.example,1', "t2,u,2026-10-02T08:00:00Z,1,,,,0"]
    shop.write([*lines, "t3,u,2026-10-03,1,much,3,x,0"], header, OWN_FIELDS)
    with pytest.raises(BadRow, match="line 4: number_1: column 'had' is no number \\(it is 'much'\\)"):
        shop.run()
    shop.write(lines, header, OWN_FIELDS)
    shop.run(dry_run=True)
    with psycopg.connect(clean_postgres.conninfo("app")) as connection:
        assert extra_fields.names(connection) == {}
    shop.run()
    own = ("number_1", "number_2", "number_3", "category_1", "category_2")
    assert [[getattr(sent, name) for name in own] for sent in transactions(shop.settings)] == [
        [-12.5, 3.0, None, "post.example", None],
        [None] * 5,
    ]
    assert [(label.transaction_id, label.category_1) for label in labels(shop.settings)] == [
        ("t1", "post.example"),
        ("t2", None),
    ]
    with psycopg.connect(clean_postgres.conninfo("app")) as connection:
        names = extra_fields.names(connection)
    assert names == {"number_1": "balance before", "number_2": "days known", "category_1": "domain"}
    shop.write(lines, header, OWN_FIELDS.replace("domain: mail", "address: mail"))
    with pytest.raises(MappingError, match="categories: .* name them as domain, address"):
        shop.run()
    assert len(transactions(shop.settings)) == 2


@pytest.fixture
def appended(shop):
    """Topics whose records bear the time at which the broker appended them."""
    names = {"transactions_topic": "appended-transactions", "labels_topic": "appended-labels"}
    shop.settings = shop.settings.model_copy(update=names)
    stamped = {"message.timestamp.type": "LogAppendTime"}
    client = AdminClient(client_config(shop.settings))
    for future in client.create_topics(
        [NewTopic(name, 1, 1, config=stamped) for name in names.values()]
    ).values():
        future.result(PATIENCE)
    ensure_topics(shop.settings)
    yield shop
    for future in client.delete_topics(list(names.values())).values():
        future.result(PATIENCE)


@pytest.mark.services
@pytest.mark.parametrize("speed", [None, 5e6])
def test_a_label_is_appended_before_any_transaction_after_it_was_known(appended, monkeypatch, speed):
    monkeypatch.setattr(importer, "BLOCK", 10)
    appended.write(rows(30))
    appended.run(label_delay=timedelta(days=5), speed=speed)
    at = {topic: read_all(appended.settings, f"appended-{topic}") for topic in ("labels", "transactions")}
    known = [
        (decode_label(message.value(), NOW, **LIMITS).known_at, message.timestamp()[1])
        for message in at["labels"]
    ]
    assert len(known) == len(at["transactions"]) == 30
    compared = 0
    for message in at["transactions"]:
        moment = decode(message.value(), NOW, **LIMITS).transaction.timestamp
        earlier = [appended_at for known_at, appended_at in known if known_at <= moment]
        compared += len(earlier)
        assert all(appended_at <= message.timestamp()[1] for appended_at in earlier)
    assert compared == sum(range(26))
    # Nor are they all sent at once: the last ones follow the last transaction.
    assert known[0][1] < known[-1][1] and known[-1][1] >= at["transactions"][0].timestamp()[1]


@pytest.mark.services
def test_a_bad_row_at_the_end_stops_before_anything_is_sent(shop):
    shop.write([*rows(5), "t,u,2026-10-01,x,p,0"])
    with pytest.raises(BadRow, match="Nothing was sent"):
        shop.run()
    assert set(end_offsets(shop.settings, shop.settings.transactions_topic).values()) == {0}
    assert shop.run(skip_bad=True).sent_transactions == 5


@pytest.mark.services
def test_asked_to_stop_it_says_how_far_it_came(shop):
    shop.write(rows(20))
    stopping = Event()
    report = shop.run(
        speed=1.0, stopping=stopping, progress=lambda phase, *_: phase == "sending" and stopping.set()
    )
    assert report.stopped and report.unacknowledged == 0
    assert (
        report.sent_transactions
        == sum(end_offsets(shop.settings, shop.settings.transactions_topic).values())
        == 1
    )
    assert not shop.run().stopped
    assert len(transactions(shop.settings)) == 21


@pytest.mark.services
def test_at_a_speed_labels_after_the_last_transaction_come_at_once(shop):
    shop.write(rows(20))
    report = shop.run(speed=20 * 86_400 / 0.5)  # at this pace the last label is due in three months
    assert (report.sent_transactions, report.sent_labels) == (20, 20)
    assert [label.transaction_id for label in labels(shop.settings)] == [f"t{i}" for i in range(20)]


@pytest.mark.services
def test_a_topic_that_is_missing_is_named_before_the_file_is_read(shop):
    shop.write(["bad"])
    shop.settings = shop.settings.model_copy(update={"labels_topic": "absent"})
    with pytest.raises(TopicMissing, match="'absent'.*create the topic first"):
        shop.run()


# Labels of stored payments

LABELS = """
fields: {transaction_id: id, user_id: user, timestamp: at, amount: sum}
label: {transaction_id: ref, column: verdict, fraud: [fraud], honest: [good], unknown: [open], known_at: decided}
"""


@pytest.fixture
def stored(kafka, clean_postgres, tmp_path):
    """A shop with three stored payments; imports a file of labels alone."""
    settings = own_topics(kafka, kafka_partitions=1)
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as owner:
        for number in range(3):
            owner.execute(
                "insert into shop.transactions (transaction_id, user_id, timestamp, amount, merchant_id, topic,"
                " partition, \"offset\", broker_time) values (%s, 'u', %s, 1, 'm', 't', 0, %s, now())",
                (f"p{number}", START + timedelta(days=number), number),
            )
    path, mapping = tmp_path / "labels.csv", tmp_path / "mapping.yaml"
    mapping.write_text(LABELS)

    def run(*lines: str, **options) -> importer.Report:
        path.write_text("\n".join(["ref,verdict,decided", *lines]) + "\n")
        return importer.import_labels(settings, path, mapping, clock=lambda: NOW, **options)

    run.settings = settings
    return run


@pytest.mark.services
def test_labels_of_stored_payments_come_in_a_later_file_and_are_corrected_in_the_next(stored):
    report = stored("p0,fraud,2026-10-10", "p1,good,", "p2,open,", "p9,fraud,2026-10-10")
    assert (report.labels, report.frauds, report.sent_labels, report.sent_transactions) == (2, 1, 2, 0)
    assert report.warnings == ["labels of 1 ids belong to no stored payment and were left out"]
    stored("p0,good,2026-10-12")
    known = [
        (one.transaction_id, one.is_fraud, one.known_at, one.merchant_id) for one in labels(stored.settings)
    ]
    assert known == [
        ("p1", False, START + timedelta(days=8), "m"),  # --label-delay after the payment
        ("p0", True, datetime(2026, 10, 10, tzinfo=UTC), "m"),
        ("p0", False, datetime(2026, 10, 12, tzinfo=UTC), "m"),
    ]
    assert {one.timestamp for one in labels(stored.settings)} == {START, START + timedelta(days=1)}


@pytest.mark.services
def test_labels_without_a_stored_payment_or_from_before_it_are_refused(stored, tmp_path):
    with pytest.raises(importer.NothingToImport, match="none of its 1 labels is of a stored payment"):
        stored("p9,fraud,2026-10-09")
    with pytest.raises(BadRow, match="line 3: label: known_at is before the payment"):
        stored("p0,fraud,2026-10-09", "p2,fraud,2026-09-09")
    assert labels(stored.settings) == []
    rejected = tmp_path / "rejected.csv"
    report = stored("p0,fraud,2026-10-09", "p2,fraud,2026-09-09", skip_bad=True, rejected=rejected)
    assert (report.sent_labels, report.bad_rows) == (1, 1) and "p2,fraud" in rejected.read_text()
    assert stored("p1,fraud,2026-10-09", dry_run=True).sent_labels == 0


@pytest.mark.services
def test_the_command_imports_labels_alone_and_names_what_is_missing(stored, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda: stored.settings)
    stored("p0,fraud,2026-10-09", dry_run=True)
    arguments = ["import", "--mapping", str(tmp_path / "mapping.yaml")]
    missing = CliRunner().invoke(main.cli, arguments)
    assert missing.exit_code == 2 and "or --labels for payments that are stored already" in missing.output
    done = CliRunner().invoke(main.cli, [*arguments, "--labels", str(tmp_path / "labels.csv")])
    assert done.exit_code == 0, done.output
    assert "1 labels, 1 of them fraud" in done.output and "transactions" not in done.output.splitlines()[0]
