"""The default world's properties, on 100,000 transactions of three weeks."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from itertools import islice

import numpy as np
import pytest

from include.events.times import micros
from include.generator.config import MOST_CUSTOMERS, Config
from include.generator.draft import ODDITIES
from include.generator.scenarios import shares
from include.generator.volume import DAY, HOUR, SECOND, Flat
from include.generator.world import World
from include.settings import Settings
from tests.generator.worlds import START, default_world, numbers, stretch, texts

SMALL = Config(customers=500, merchants=200, rate=2.0, history_days=5, history_events=20_000)


def digest(world: World, hours: tuple[int, ...] = (0, 1, 2)) -> str:
    digest = hashlib.sha256()
    for hour in hours:
        batch = world.slot(micros(START) + hour * HOUR, Flat(2.0))
        for record in (*batch.transactions(), *batch.label_records()):
            digest.update(repr(record).encode())
    return digest.hexdigest()


def test_equal_seeds_give_equal_bytes_in_another_process_and_another_order():
    world = World(SMALL)
    world.slot(micros(START) + 7 * HOUR, Flat(2.0))
    code = "from tests.generator.test_world import *; print(digest(World(SMALL)))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(world)


@pytest.mark.parametrize(
    "changed", [{"seed": 8}, {"fraud_rate": 0.02}, {"customers": 501}, {"merchants": 201}]
)
def test_another_configuration_gives_other_transactions(changed):
    one, other = (next(World(config).live(START)) for config in (SMALL, replace(SMALL, **changed)))
    assert not set(texts(one.events, "transaction_id")) & set(texts(other.events, "transaction_id"))


def test_ids_differ_between_slots_rates_and_history():
    world = World(SMALL)
    batches = [*islice(world.live(START), 2), *islice(world.live(START, rate=3.0), 2), *world.history(START)]
    ids = np.concatenate([texts(batch.events, "transaction_id") for batch in batches])
    assert len(set(ids)) == len(ids)


def test_a_restart_within_a_slot_goes_on_with_the_same_transactions():
    world = World(SMALL)
    whole = next(world.live(START))
    rest = next(World(SMALL).live(START + timedelta(minutes=20)))
    assert whole.transactions()[-len(rest) :] == rest.transactions()
    assert rest.time.min() >= micros(START + timedelta(minutes=20))


def test_live_transactions_come_in_order_at_the_asked_rate():
    batches = list(islice(World(SMALL).live(START, rate=5.0), 24))
    times = np.concatenate([batch.time for batch in batches])
    assert (np.diff(times) >= 0).all()
    assert abs(len(times) / 24 / 3600 - 5.0) < 0.01


def test_a_history_grows_to_the_live_rate_and_can_be_resumed():
    world, end = World(SMALL), START + timedelta(minutes=17)  # not the end of a slot
    batches = list(world.history(end))
    times = np.concatenate([batch.time for batch in batches])
    assert abs(len(times) - 20_000) < 50
    assert micros(end) - 5 * DAY <= times.min() and times.max() < micros(end)
    first_half = (times < micros(end) - 5 * DAY // 2).sum()
    assert 0.4 < first_half / len(times) < 0.5
    tail = list(world.history(end, resume_at=int(batches[-2].time[0])))
    assert [r for b in tail for r in b.transactions()] == [r for b in batches[-2:] for r in b.transactions()]


def test_each_customer_pays_as_often_throughout_the_history():
    batches = list(World(replace(SMALL, history_events=60_000)).history(START))
    times = np.concatenate([batch.time for batch in batches])
    users = np.concatenate([texts(batch.events, "user_id") for batch in batches])
    end, first = micros(START), users <= "user_0000019"  # they are there throughout
    joining = (times >= end - 3 * HOUR) & (times < end)
    day_before = (times >= end - 27 * HOUR) & (times < end - DAY)
    assert joining.sum() > 3 * day_before.sum()
    assert len(set(users[joining])) > 5 * len(set(users[day_before]))
    assert 0.5 < (first & joining).sum() / (first & day_before).sum() < 2


def test_a_higher_rate_means_more_customers_not_busier_ones():
    settings = Settings(_env_file=None)
    payments, customers = [], []
    for rate in (0.01, 2.0):
        world = World(Config.from_settings(settings, rate=rate, fraud_rate=0.0))
        batches = world.between(START, START + timedelta(days=2 if rate < 1 else 0.5))
        users = np.concatenate([texts(batch.events, "user_id") for batch in batches])
        payments.append(len(users) / (2 if rate < 1 else 0.5) / world.customers.count)
        customers.append(world)
    assert payments == pytest.approx([17.28, 17.28], rel=0.02)
    few, many = (world.customers for world in customers)
    assert (few.count, many.count) == (50, 10_000)
    assert np.array_equal(few.amount, many.amount[:50])  # who is there stays


def test_customers_are_bounded_by_the_memory_they_take():
    busy = Config.from_settings(Settings(_env_file=None), rate=50_000.0)
    assert busy.towns * busy.customers == MOST_CUSTOMERS
    large = Config.from_settings(Settings(_env_file=None, customers=5_000_000), rate=50.0)
    assert large.towns == 1


def test_customers_persist_and_have_their_own_habits():
    batch = default_world()
    users, first = np.unique(texts(batch.events, "user_id"), return_index=True)
    assert 4_000 < len(users) <= 5_000
    honest = numbers(batch.truth, "scenario_id") == None  # noqa: E711
    amount = np.log(numbers(batch.events, "amount"))[honest]
    owner = np.unique(texts(batch.events, "user_id")[honest], return_inverse=True)[1]
    counts = np.bincount(owner)
    means = np.bincount(owner, amount) / np.maximum(counts, 1)
    within = np.sqrt(np.bincount(owner, (amount - means[owner]) ** 2) / np.maximum(counts - 1, 1))
    often = counts >= 30
    assert means[often].std() > 0.5 and np.median(within[often]) < amount.std()
    owners, device = texts(batch.events, "user_id"), texts(batch.events, "device")
    devices = [len(set(device[owners == user])) for user in users[:20]]
    assert np.median(devices) <= 4


def test_fraud_is_as_frequent_as_asked_and_of_all_kinds():
    batch = default_world()
    scenario = texts(batch.truth, "scenario_id")
    assert 0.007 < (scenario != "").mean() < 0.013
    assert ((scenario != "") == numbers(batch.truth, "is_fraud")).all()
    for name, share in shares(drifted=False).items():
        assert 0.4 * share <= (scenario == name).sum() / (scenario != "").sum() <= 2.0 * share, name


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3])
def test_the_fraud_rate_follows_its_setting(rate):
    fraud = numbers(stretch(Config(fraud_rate=rate), days=5, events=30_000).truth, "is_fraud").mean()
    assert 0.75 * rate <= fraud <= 1.25 * rate


def test_about_one_in_a_hundred_is_honest_and_odd():
    batch = default_world()
    oddity, fraud = texts(batch.truth, "oddity"), numbers(batch.truth, "is_fraud")
    assert not (oddity[fraud] != "").any()
    assert 0.007 < (oddity != "").mean() < 0.016
    for name in ODDITIES[1:]:
        assert (oddity == name).sum() > 10, name


def test_some_optional_fields_are_missing_whether_fraud_or_not():
    batch = default_world()
    fraud = numbers(batch.truth, "is_fraud")
    for name, share in (("device", 0.01), ("latitude", 0.02)):
        missing = (
            numbers(batch.events[name].is_null(), "x") if False else np.array(batch.events[name].is_null())
        )
        assert 0.5 * share < missing.mean() < 1.5 * share
        assert missing[fraud].mean() < 4 * share


def test_labels_come_late_and_are_neither_complete_nor_all_right():
    batch = default_world()
    fraud = {row["transaction_id"] for row in batch.truth.to_pylist() if row["is_fraud"]}
    labels = batch.labels.to_pylist()
    reported = {row["transaction_id"] for row in labels if row["is_fraud"]}
    assert 0.93 < len(reported & fraud) / len(fraud) < 0.99
    assert 0.005 < len(reported - fraud) / len(reported) < 0.08
    corrected = [row for row in labels if not row["is_fraud"]]
    assert corrected and not {row["transaction_id"] for row in corrected} & fraud
    first = {row["transaction_id"]: row["known_at"] for row in labels if row["is_fraud"]}
    assert all(row["known_at"] > first[row["transaction_id"]] for row in corrected)
    delays = np.array([(row["known_at"] - row["timestamp"]) / timedelta(hours=1) for row in labels])
    assert delays.min() >= 1 and 10 < np.median(delays) < 40 and delays.max() > 5 * 24


def test_truth_and_kind_never_stand_in_an_event():
    batch = default_world()
    assert not {"is_fraud", "scenario_id", "oddity"} & set(batch.events.column_names)


def test_after_the_drift_amounts_devices_and_fraud_are_others():
    config = Config(drift_at=START + timedelta(days=3), fraud_rate=0.03)
    before, after = (
        stretch(config, days=3, events=20_000, start=START + timedelta(days=day)) for day in (0, 40)
    )
    amounts = [np.log(numbers(batch.events, "amount")).mean() for batch in (before, after)]
    assert 0.1 < amounts[1] - amounts[0] < 0.25
    newest = [(texts(batch.events, "device") == "iPhone 17").mean() for batch in (before, after)]
    assert newest[1] > 1.5 * newest[0]
    kinds = [texts(batch.truth, "scenario_id") for batch in (before, after)]
    assert not (kinds[0] == "gift_cards").any()
    assert 0.08 < (kinds[1] == "gift_cards").sum() / (kinds[1] != "").sum() < 0.25
    assert 0.02 < (kinds[1] != "").mean() < 0.04


def test_one_merchant_group_and_ten_customers_are_enough():
    batch = stretch(Config(customers=10, merchants=10), days=1, events=2_000)
    assert len(batch) == 2_000


def test_high_rates_come_in_short_slots():
    world = World(replace(SMALL, rate=50_000.0))
    batch = next(world.live(START))
    assert len(batch) == 50_000 and batch.time.max() < micros(START) + SECOND
