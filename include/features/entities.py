"""What a payment is made by, at, with and from: the kinds of entities of which frauds are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from include.events.transaction import CATEGORIES
from include.features.geography import country_of

if TYPE_CHECKING:
    from include.events.label import Label
    from include.events.transaction import Transaction

# The field of a transaction, and of a label, that names the entity of a kind; a country stands in its location.
FIELDS = {
    "customer": "user_id",
    "merchant": "merchant_id",
    "device": "device",
    "category": "merchant_category",
    "country": "transaction_location",
    **{name: name for name in CATEGORIES},
}
SHOP = "shop"  # the kind of the whole shop, which has one entity without a name
KINDS = (SHOP, *FIELDS)


class Coded(NamedTuple):
    """N texts as their distinct `values` in order of first use, and `codes` (N,) which of them each is, -1: none."""

    values: list[str]
    codes: np.ndarray


def coded(texts: Sequence[str | None]) -> Coded:
    """Texts by their distinct values; an empty one is none.

    >>> coded(["b", None, "a", "b", ""])
    Coded(values=['b', 'a'], codes=array([ 0, -1,  1,  0, -1]))
    """
    code: dict[str, int] = {}
    codes = [code.setdefault(text, len(code)) if text else -1 for text in texts]
    return Coded(list(code), np.array(codes, np.int64))


def coded_countries(locations: Sequence[str | None]) -> Coded:
    """The countries of locations.

    >>> coded_countries(["Nairobi, Kenya", None, "kenya", "Japan"])
    Coded(values=['kenya', 'japan'], codes=array([ 0, -1,  0,  1]))
    """
    distinct = coded(locations)
    countries = coded([country_of(location) for location in distinct.values])
    return Coded(countries.values, np.append(countries.codes, -1)[distinct.codes])


def entities(transactions: Sequence[Transaction]) -> dict[str, Coded]:
    """The entities of N payments by kind; of `CATEGORIES` only those that any payment has.

    >>> from include.events import transaction
    >>> payment = transaction.Transaction(*[field.example for field in transaction.FIELDS])
    >>> entities([payment, payment])["country"]
    Coded(values=['germany'], codes=array([0, 0]))
    """
    of_kind = {
        SHOP: Coded([""], np.zeros(len(transactions), np.int64)),
        "customer": coded([t.user_id for t in transactions]),
        "merchant": coded([t.merchant_id for t in transactions]),
        "device": coded([t.device for t in transactions]),
        "category": coded([t.merchant_category for t in transactions]),
        "country": coded_countries([t.transaction_location for t in transactions]),
    }
    for name in CATEGORIES:
        given = [getattr(t, name) for t in transactions]
        if given.count(None) < len(given):
            of_kind[name] = coded(given)
    return of_kind


def entities_of(event: Transaction | Label) -> dict[str, str]:
    """The entities that one event names, by kind.

    >>> from datetime import UTC, datetime
    >>> from include.events.label import Label
    >>> time = datetime(2026, 11, 20, tzinfo=UTC)
    >>> entities_of(Label("t", time, True, time, user_id="u", transaction_location="Nairobi, Kenya"))
    {'customer': 'u', 'country': 'kenya'}
    """
    return named({field: getattr(event, field) for field in FIELDS.values()})


def named(fields: Mapping[str, str | None]) -> dict[str, str]:
    """The entities by kind of an event with these fields.

    >>> named(dict.fromkeys(FIELDS.values()) | {"device": "phone"})
    {'device': 'phone'}
    """
    texts = {kind: fields[field] for kind, field in FIELDS.items()}
    texts["country"] = country_of(texts["country"])
    return {kind: text for kind, text in texts.items() if text}
