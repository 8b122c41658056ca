"""The difficulty gate: fraud in the default world is hidden, in the first design's it is not."""

import numpy as np
import pyarrow as pa

from include.generator.config import Config
from tests.generator.difficulty import measure
from tests.generator.worlds import default_world, numbers, stretch


def test_no_field_nor_two_of_them_give_fraud_away():
    batch = default_world()
    difficulty = measure(batch.events, batch.truth)
    assert not difficulty.too_easy()
    assert difficulty.fields["amount"].auc > 0.55  # it measures: large amounts are a hint


def test_the_first_design_does_not_pass():
    batch = stretch(Config(profile="original", fraud_rate=0.1), events=20_000)
    difficulty = measure(batch.events, batch.truth)
    assert {"amount", "device", "tree of depth 2"} <= difficulty.too_easy().keys()
    assert difficulty.tree.precision > 0.6


def test_a_letter_in_a_name_that_reveals_fraud_does_not_pass():
    batch = stretch(Config(customers=500), days=5, events=15_000)
    fraud = numbers(batch.truth, "is_fraud")
    ids = np.array(batch.events["transaction_id"].to_pylist())
    marked = np.where(fraud, np.char.add("CM", ids), np.char.add("AM", ids))
    column = batch.events.column_names.index("transaction_id")
    events = batch.events.set_column(column, "transaction_id", pa.array(marked.tolist()))
    assert "transaction_id: first letters" in measure(events, batch.truth).too_easy()
