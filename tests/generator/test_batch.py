import json
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.events.label import decode_label
from include.events.times import from_micros, micros
from include.events.transaction import decode
from include.generator.batch import (
    EVENTS,
    LABELS,
    coded,
    event_rows,
    json_lines,
    plain,
    text_of_times,
    uuids,
)
from include.generator.config import Config
from include.generator.profiles import simulation
from tests.generator.worlds import START, default_world

LATEST = START + timedelta(days=60)
LIMITS = {"max_bytes": 4_096, "future_tolerance": timedelta(0)}


@given(st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)), max_size=20))
def test_times_are_written_as_iso_8601(times):
    times = [time.replace(tzinfo=UTC) for time in times]
    text = text_of_times(np.array([micros(time) for time in times], np.int64))
    assert [datetime.fromisoformat(row.tobytes().decode()) for row in text] == times
    assert [from_micros(micros(time)) for time in times] == times


def test_ids_are_random_uuids():
    ids = uuids(np.random.default_rng(1), 1_000).to_pylist()
    assert len(set(ids)) == 1_000
    assert all(uuid.UUID(text).version == 4 and str(uuid.UUID(text)) == text for text in ids)


def test_json_has_nulls_numbers_booleans_and_unicode():
    rows = pa.table(
        {"a": ["Zoë", None], "b": [1.5, None], "c": [True, False], "d": ["x", "محمد"], "e": [2, 3]}
    )
    assert [json.loads(line) for line in json_lines(rows).to_pylist()] == rows.to_pylist()


def test_json_of_coded_columns_is_that_of_their_texts():
    one, other = pa.array([1, 0, None, 1]), pa.array([0, 0, 1, 0])
    values = [pa.array(["a", "é"]), pa.array(["x", "y"])]
    rows = pa.table(
        {
            "a": coded(one, values[0]),
            "b": coded(one, values[1]),  # shares its codes with the one before
            "c": coded(other, values[1]),
            "d": [1, 2, 3, 4],
            "e": coded(one, values[1]),
        }
    )
    for some in (rows, rows.slice(1, 2), pa.concat_tables([rows, rows]), rows.select(["c", "b"])):
        assert [json.loads(line) for line in json_lines(some).to_pylist()] == some.to_pylist()
        assert plain(some).to_pylist() == some.to_pylist()


@pytest.mark.parametrize("profile", ["world", "original"])
@pytest.mark.parametrize("truth_in_events", [False, True])
def test_records_have_declared_fields_of_the_declared_types_in_order(profile, truth_in_events):
    config = Config(profile=profile, truth_in_events=truth_in_events, rate=1.0)
    batch = next(iter(simulation(config).between(START, START + timedelta(hours=1), events=100)))
    events = plain(batch.events)
    assert events.schema == pa.schema(
        [EVENTS.field(name) for name in EVENTS.names if name in events.column_names]
    )
    assert ("is_fraud" in events.column_names) == truth_in_events
    assert batch.labels.schema == LABELS


def test_a_column_that_is_no_field_is_refused():
    with pytest.raises(ValueError, match="an event has no field colour"):
        event_rows({"transaction_id": pa.array(["a"]), "colour": pa.array(["red"])})


def test_every_transaction_passes_the_strict_reader():
    batch = default_world().between(micros(START), micros(START + timedelta(hours=6)))
    records = batch.transactions()
    assert len(records) == len(batch) > 500
    for (at, key, value), row in zip(records, batch.events.to_pylist(), strict=True):
        read = decode(value, LATEST, **LIMITS)
        assert read.unknown_fields == 0 and read.is_fraud is None
        assert {name: getattr(read.transaction, name) for name in row} == row
        assert key.decode() == row["user_id"] and micros(row["timestamp"]) == at


def test_every_label_passes_the_strict_reader_and_knows_its_transaction():
    batch = default_world().between(micros(START), micros(START + timedelta(days=2)))
    ids = set(batch.events["transaction_id"].to_pylist())
    records = batch.label_records()
    assert len(records) == len(batch.labels) > 50
    for (at, key, value), row in zip(records, batch.labels.to_pylist(), strict=True):
        label = decode_label(value, LATEST, **LIMITS)
        assert label.transaction_id in ids and micros(label.timestamp) == at
        assert label.known_at == row["known_at"] > label.timestamp
        assert key.decode() == row["user_id"]


def test_parts_make_the_whole():
    batch = default_world()
    middle = micros(START + timedelta(days=5))
    parts = batch.between(0, middle), batch.between(middle, micros(LATEST))
    assert sum(map(len, parts)) == len(batch)
    assert pa.concat_tables([part.labels for part in parts]).equals(batch.labels)
    assert parts[0].time.max() < middle <= parts[1].time.min()
    assert parts[0].labels["timestamp"].to_pylist()[-1] < from_micros(middle)
