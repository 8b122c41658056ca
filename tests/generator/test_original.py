from dataclasses import replace

import numpy as np

from include.events.transaction import decode
from include.generator.config import Config
from include.generator.original import HONEST_AMOUNT, ODD_DEVICES
from tests.generator.test_batch import LATEST, LIMITS
from tests.generator.worlds import numbers, stretch, texts

ORIGINAL = Config(profile="original", fraud_rate=0.1, truth_in_events=True)


def test_each_fraud_is_given_away_by_one_field_and_nobody_comes_twice():
    batch = stretch(ORIGINAL, days=1, events=5_000)
    large = numbers(batch.events, "amount") > HONEST_AMOUNT[1]
    odd = np.isin(texts(batch.events, "device"), ODD_DEVICES.to_pylist())
    abroad = texts(batch.events, "location") != texts(batch.events, "transaction_location")
    fraud = numbers(batch.truth, "is_fraud")
    assert (large.astype(int) + odd + abroad == fraud).all()
    assert min(large.sum(), odd.sum(), abroad.sum()) > 100
    assert 0.08 < fraud.mean() < 0.12
    assert len(set(texts(batch.events, "user_id"))) == len(batch)


def test_the_truth_is_in_the_event_or_else_a_label():
    with_truth = stretch(ORIGINAL, days=1, events=500)
    read = [decode(value, LATEST, **LIMITS) for _, _, value in with_truth.transactions()]
    assert [transaction.is_fraud for transaction in read] == numbers(with_truth.truth, "is_fraud").tolist()
    assert not with_truth.label_records()
    labelled = stretch(replace(ORIGINAL, truth_in_events=False), days=1, events=500)
    assert "is_fraud" not in labelled.events.column_names
    assert len(labelled.label_records()) == numbers(labelled.truth, "is_fraud").sum()


def test_equal_seeds_give_equal_bytes():
    assert stretch(ORIGINAL, 1, 300).transactions() == stretch(ORIGINAL, 1, 300).transactions()
    assert (
        stretch(ORIGINAL, 1, 300).transactions() != stretch(replace(ORIGINAL, seed=9), 1, 300).transactions()
    )
