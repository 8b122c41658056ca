"""Two events with one id, from the topics through both streams to figures and pages: neither counts for the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from include.imports import importer
from include.platform.status import status
from include.settings import PROJECT_ROOT, Settings
from include.streams import FRAUD_STREAM, TRANSACTION_STREAM
from include.training.evaluation import evaluate
from tests.builders import NOW, event_bytes, label_bytes
from tests.payments import keep_champion
from tests.stream_runs import Waiting, books, both_streams, own, produce, query
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


@pytest.fixture
def shop(clean_postgres: Settings, kafka: Settings, tmp_path: Path) -> Settings:
    settings = own(clean_postgres, tmp_path, kafka_partitions=2, mlflow_tracking_uri="http://127.0.0.1:9")
    keep_champion(settings)
    return settings


def read_all(until: Waiting, shop: Settings, offsets: int) -> None:
    """Waits until each stream has read so many offsets of the two topics."""
    until(lambda: books(shop, TRANSACTION_STREAM)[0] == offsets == books(shop, FRAUD_STREAM)[0])


def assert_counts_close(shop: Settings, conflicts: int) -> None:
    counts = status(shop)["counts"]
    assert counts["scored_id_conflicts"] == conflicts and counts["scored_repeats"] == 0
    assert counts["scored"] == counts["transactions"] + conflicts


def test_a_second_event_of_an_id_keeps_its_alert_and_its_label_to_itself(shop, session, use):
    """An ordinary payment by one customer; then another customer's card test with a large payment of the same id."""
    thief = {"user_id": "customer-b", "merchant_id": "merchant-b"}
    small = [
        event_bytes(**thief, amount=10 + i % 5, timestamp=NOW - timedelta(hours=90 - i)) for i in range(60)
    ]
    tiny = [event_bytes(**thief, amount=1 + i / 10, timestamp=NOW + timedelta(seconds=i)) for i in range(6)]
    time = NOW + timedelta(minutes=1)
    large = event_bytes(**thief, transaction_id="x-7", amount=4999, timestamp=time, device="Unknown",
                        email="b@b.example", location="Germany", transaction_location="Brazil")  # fmt: skip
    ordinary = event_bytes(user_id="customer-a", transaction_id="x-7", amount=11, merchant_id="merchant-a")
    label = label_bytes(transaction_id="x-7", user_id="customer-b", timestamp=time, known_at=NOW + timedelta(hours=1),
                        merchant_id=None)  # fmt: skip
    with both_streams(shop, session) as until:
        produce(shop, shop.transactions_topic, [ordinary], partition=0)
        read_all(until, shop, 1)
        produce(shop, shop.labels_topic, [label])
        produce(shop, shop.transactions_topic, [*small, *tiny, large], partition=1)
        read_all(until, shop, 69)

    assert query(shop, "select user_id, amount from shop.transactions where transaction_id = 'x-7'") == [
        ("customer-a", 11)
    ]
    letters = query(
        shop, "select reason, partition, event ->> 'user_id', event ->> 'email' from shop.dead_letters"
    )
    assert letters == [("id_conflict", 1, "customer-b", None)]
    assert query(shop, "select user_id, amount from shop.fraud_alerts where transaction_id = 'x-7'") == [
        ("customer-b", 4999)
    ]
    assert_counts_close(shop, conflicts=1)

    scores = "select count(*), count(known_fraud), count(*) filter (where is_fraud) from monitoring.labelled_scores"
    assert query(shop, scores) == [(67, 0, 0)]
    assert query(shop, "select is_fraud from monitoring.current_labels where transaction_id = 'x-7'") == [
        (True,)
    ]
    of_others = "select * from shop.known_frauds where kind = 'merchant' or entity = 'customer-a'"
    assert query(shop, of_others) == []
    result = evaluate(shop, as_of=NOW + timedelta(days=9), draws=0)
    assert (result["transactions"], result["frauds"]) == (67, 0)

    use(shop)
    app = AppTest.from_file(str(PROJECT_ROOT / "streamlit_app/views/alerts.py"), default_timeout=PATIENCE)
    app.query_params["transaction"] = "x-7"
    app.run()
    assert not app.exception
    text = "\n".join(
        element.value for kind in ("markdown", "caption", "warning") for element in app.get(kind)
    )
    assert "Another payment has the same id" in text and "Known label: fraud" in text
    assert r"Amount: **4,999\.00 EUR**" in text and r"Customer: **customer\-b**" in text
    assert "Place of payment: **Brazil**" in text and r"merchant\-b" in text
    assert r"customer\-a" not in text and r"merchant\-a" not in text and r"11\.00" not in text
    assert "last 50 stored transactions" in text


SHOP = "no,account,at,sum,fraud\n"
SHOP_A = SHOP + "".join(f"{i},a{i % 3},2026-03-01T10:0{i}:00Z,1{i}.00,0\n" for i in (1, 2, 3, 4))
SHOP_B = SHOP + "".join(f"{i},b{i % 3},2026-03-05T18:0{i}:00Z,50{i}.00,{i // 4}\n" for i in (1, 2, 3, 4))
MAPPING = """
fields:
  transaction_id: {text: "shop-{row}"}
  user_id: account
  timestamp: at
  amount: sum
label: {column: fraud, fraud: ["1"], honest: ["0"]}
"""


def test_files_of_two_shops_that_count_their_rows_do_not_share_labels(shop, session, tmp_path):
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(MAPPING)
    with both_streams(shop, session) as until:
        for name, text, offsets in (("a.csv", SHOP_A, 8), ("b.csv", SHOP_B, 16)):
            (tmp_path / name).write_text(text)
            importer.import_events(shop, tmp_path / name, mapping)
            read_all(until, shop, offsets)

    owners = query(shop, "select transaction_id, left(user_id, 1) from shop.transactions order by 1")
    assert owners == [(f"shop-{row}", "a") for row in (2, 3, 4, 5)]
    assert query(shop, "select count(*) from shop.dead_letters where reason = 'id_conflict'") == [(4,)]
    assert query(shop, "select count(*), count(*) filter (where is_fraud) from shop.fraud_transactions") == [
        (8, 1)
    ]
    scored = query(shop, "select count(*) from shop.fraud_scores where user_id like 'b%'")[0][0]
    assert_counts_close(shop, conflicts=scored)

    figures = "select count(*), count(known_fraud), count(*) filter (where known_fraud) from monitoring.labelled_scores"
    assert query(shop, figures) == [(4, 4, 0)]
    days = "select sum(transactions), sum(known_frauds) from monitoring.daily_performance('2026-03-01', '2026-03-09')"
    assert query(shop, days) == [(4, 0)]
    as_of = datetime(2026, 4, 1, tzinfo=UTC)
    result = evaluate(shop, as_of - timedelta(days=40), as_of, as_of=as_of, draws=0)
    assert (result["transactions"], result["frauds"]) == (4, 0)
