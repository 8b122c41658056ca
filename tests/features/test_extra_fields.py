"""What a shop calls its own fields is remembered, and never given another meaning."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from include.events import mapping
from include.events.mapping import MappingError
from include.features import extra_fields

pytestmark = pytest.mark.services

FIELDS = "fields: {transaction_id: id, user_id: user, timestamp: at, amount: sum}\n"


@pytest.fixture
def use(clean_postgres, tmp_path):
    """Uses a mapping with these names as the streams do; what the shop's fields are called then."""

    def use(text: str) -> dict[str, str]:
        path: Path = tmp_path / "mapping.yaml"
        path.write_text(FIELDS + text)
        with psycopg.connect(clean_postgres.conninfo("stream_writer")) as connection:
            extra_fields.keep(connection, mapping.load(path).names, path)
        with psycopg.connect(clean_postgres.conninfo("app")) as connection:
            return extra_fields.names(connection)

    return use


def test_names_stay_with_their_fields_and_new_ones_come_after_them(use):
    assert use("") == {}
    first = {"number_1": "balance", "category_1": "channel"}
    assert use("numbers: {balance: b}\ncategories: {channel: {constant: web}}") == first
    assert use("categories: {channel: c}") == use("") == first
    more = first | {"number_2": "days known"}
    assert use("numbers: {balance: {column: x, factor: 0.01}, days known: d}") == more


def test_another_order_is_refused_with_the_one_that_works(use):
    """The remedy that the message names is followed to its end."""
    stored = use("numbers: {balance: b, distance: d}")
    with pytest.raises(MappingError) as refused:
        use("numbers: {distance: d, age: a}")
    assert str(refused.value).endswith(
        "numbers: this shop's data has them in another order: name them as balance, distance, age; "
        "one that this file does not have stays without a value"
    )
    assert use("") == stored  # nothing of it was kept
    assert use("numbers: {balance: , distance: d, age: a}") == stored | {"number_3": "age"}


def test_there_is_room_for_four(use):
    use("numbers: {a: a, b: b, c: c, d: d}")
    with pytest.raises(MappingError, match="would have 5 of them, there is room for 4: a, b, c, d, e"):
        use("numbers: {e: e}")
