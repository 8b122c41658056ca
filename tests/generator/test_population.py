import json

import numpy as np
import pytest

from include.generator.catalogue import CITIES, COUNTRIES
from include.generator.population import (
    CITY_COUNTRY,
    CITY_LATITUDE,
    CITY_LONGITUDE,
    Customers,
    Groups,
    Merchants,
    foreign_city,
)
from include.generator.volume import DAY

NOW = 20_000 * DAY


@pytest.fixture(scope="module")
def customers() -> Customers:
    return Customers(seed=7, count=3_000)


@pytest.fixture(scope="module")
def merchants() -> Merchants:
    return Merchants(seed=7, count=2_000)


def at(customers: Customers, days: float = 0) -> np.ndarray:
    return np.full(customers.count, NOW + int(days * DAY))


def test_customers_stay_at_home_and_a_few_move_within_their_country(customers):
    _, before = customers.home(customers.index, at(customers))
    _, later = customers.home(customers.index, at(customers, 365))
    assert 0.02 < (before != later).mean() < 0.25
    assert (CITY_COUNTRY[later] == customers.country).all()
    latitude, longitude = customers.position(customers.index, before)
    assert np.abs(latitude - CITY_LATITUDE[before]).max() < 0.2
    assert np.abs(longitude - CITY_LONGITUDE[before]).max() < 0.2


def test_devices_persist_for_months(customers):
    first = np.zeros(customers.count, int)
    today = customers.device(customers.index, at(customers), first, None)
    assert (today == customers.device(customers.index, at(customers, 1), first, None)).mean() > 0.98
    assert (today == customers.device(customers.index, at(customers, 2_000), first, None)).mean() < 0.3


def test_the_drift_changes_devices_within_a_month(customers):
    first = np.zeros(customers.count, int)
    drifted = [customers.device(customers.index, at(customers, day), first, NOW) for day in (1, 40)]
    plain = [customers.device(customers.index, at(customers, day), first, None) for day in (1, 40)]
    assert (drifted[0] != plain[0]).mean() < 0.1
    assert 0.25 < (drifted[1] != plain[1]).mean() < 0.45


def test_customers_keep_their_hours(customers):
    chosen = [
        customers.choose(np.random.default_rng(0).random(20_000), hour, customers.count) for hour in (3, 15)
    ]
    counts = [np.bincount(who, minlength=customers.count) for who in chosen]
    assert np.corrcoef(counts)[0, 1] < 0.6
    again = customers.choose(np.random.default_rng(1).random(20_000), 15, customers.count)
    assert np.corrcoef(counts[1], np.bincount(again, minlength=customers.count))[0, 1] > 0.8


def test_only_present_customers_pay(customers):
    assert customers.choose(np.array([0.0, 0.5, 0.999999999]), 12, 10).max() <= 9


def test_names_are_valid_json_without_escapes_and_addresses_are_unique(customers):
    names = customers.names
    for column in ("first_name", "last_name", "full_name"):
        for text in names[column].unique().to_pylist():
            assert json.dumps(text, ensure_ascii=False) == f'"{text}"'
    assert len(names["email"].unique()) == customers.count
    assert all(address.isascii() and " " not in address for address in names["email"].to_pylist())
    parts = [names[column].to_pylist() for column in ("first_name", "last_name", "full_name")]
    assert all(full == f"{first} {last}" for first, last, full in zip(*parts, strict=True))


def test_every_place_is_on_earth_and_in_a_known_country():
    assert {city.country for city in CITIES} == COUNTRIES.keys()
    assert np.abs(CITY_LATITUDE).max() < 89 and np.abs(CITY_LONGITUDE).max() < 179


@pytest.mark.parametrize("count", [10, 2_000])
def test_each_kind_of_choice_has_merchants(count):
    merchants = Merchants(seed=1, count=count)
    town, uniform = np.zeros(200, np.int64), np.arange(200) / 200
    for shops in (merchants.online_shop, merchants.big_shop, merchants.gift_shop):
        assert shops(town, uniform).max() < count
    assert merchants.online[merchants.online_shop(town, uniform)].all()
    city = np.arange(len(CITIES))
    chosen = merchants.in_city(0 * city, city, city.astype(np.uint64))
    assert not merchants.online[chosen].any()


def test_shops_are_chosen_in_the_city(merchants):
    city = np.repeat(np.arange(len(CITIES)), 20)
    hashes = np.random.default_rng(0).integers(0, 1 << 60, len(city), np.uint64)
    chosen = merchants.in_city(0 * city, city, hashes)
    assert (merchants.city[chosen] == city).mean() > 0.97


def test_more_towns_leave_customers_and_their_shops_as_they_are():
    few, many = Customers(3, 50, towns=1.5), Customers(3, 50, towns=20)
    assert (few.count, many.count) == (75, 1_000)
    for name in ("country", "amount", "activity", "peak", "devices", "device_life", "phase", "name", "town"):
        assert np.array_equal(getattr(few, name), getattr(many, name)[: few.count]), name
    assert len(set(many.amount)) == many.count
    shops, more = Merchants(3, 20, towns=1.5), Merchants(3, 20, towns=20)
    assert (shops.count, more.count) == (40, 400)
    hashes = np.random.default_rng(0).integers(0, 1 << 60, 500, np.uint64)
    town, city, uniform = np.arange(500) % 2, np.arange(500) % len(CITIES), np.arange(500) / 500
    for one, other in (
        (shops.in_city(town, city, hashes), more.in_city(town, city, hashes)),
        (shops.online_shop(town, uniform), more.online_shop(town, uniform)),
        (shops.gift_shop(town, uniform), more.gift_shop(town, uniform)),
    ):
        assert np.array_equal(one, other) and np.array_equal(one // 20, town)
    assert np.array_equal(shops.price, more.price[:40])


def test_an_empty_group_borrows_from_all():
    groups = Groups(np.array([0, 0, 2]), 3)
    assert set(groups.choose(np.array([1, 1, 1]), np.arange(3, dtype=np.uint64))) == {0, 1, 2}


@pytest.mark.parametrize("far", [False, True])
def test_foreign_cities_are_abroad(far):
    country = np.repeat(np.arange(len(COUNTRIES)), 200)
    city = foreign_city(country, np.random.default_rng(0).integers(0, 1 << 60, len(country), np.uint64), far)
    position = np.array([value[2] for value in COUNTRIES.values()]) if far else np.arange(len(COUNTRIES))
    assert (position[CITY_COUNTRY[city]] != position[country]).all()
