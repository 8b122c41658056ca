"""The generator beside the usual loop that makes one record at a time, and beside Faker."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec

from include.bench import START
from include.bench.compare import BenchmarkFailed, Comparison, Side, compare, timed
from include.generator.catalogue import CITIES, CULTURES, DEVICES
from include.generator.config import Config
from include.generator.profiles import simulation


def measure(rounds: int = 9, events: int = 20_000) -> list[Comparison]:
    """Keys and JSON of about `events` transactions of the world; a tenth of them from the loop, a hundredth from Faker.

    Raises:
        BenchmarkFailed: Faker is not installed.
    """
    faked = faker_record()
    batches = simulation(Config(rate=30.0)).live(START)
    next(batches).transactions()  # tables are filled
    rng = random.Random(7)

    def generated() -> float:
        count, begin = 0, time.process_time()
        while count < events:
            count += len(next(batches).transactions())
        return (time.process_time() - begin) / count

    def one_by_one(record: Callable[[], object], count: int) -> Callable[[], float]:
        return lambda: timed(lambda: [record() for _ in range(count)], count)

    ours = [Side("generator", generated)]
    loop = Side("a loop of one record at a time", one_by_one(lambda: plain_record(rng), max(1, events // 10)))
    faker = Side("a Faker record per event", one_by_one(faked, max(1, events // 100)))
    return [
        *compare("generator", "transaction", ours, loop, rounds),
        *compare("generator", "transaction", ours, faker, rounds),
    ]


def plain_record(rng: random.Random) -> tuple[bytes, bytes]:
    """Key and value of one transaction as tutorials make it, with the fields of the generator's."""
    culture = CULTURES[rng.choice(list(CULTURES))]
    first, last = rng.choice(culture.first), rng.choice(culture.last)
    home = rng.choice(CITIES)
    there = home if rng.random() < 0.95 else rng.choice(CITIES)
    user = f"user_{rng.randrange(5_000):07d}"
    record = {
        "transaction_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "user_id": user,
        "timestamp": (START + timedelta(seconds=rng.uniform(0, 86_400))).isoformat(),
        "first_name": first,
        "last_name": last,
        "full_name": f"{first} {last}",
        "email": f"{first}.{last}{rng.randrange(10_000)}@example.com".lower(),
        "location": f"{home.name}, {home.country}",
        "transaction_location": f"{there.name}, {there.country}",
        "amount": round(rng.lognormvariate(3.4, 0.8), 2),
        "device": rng.choice(DEVICES).name,
        "merchant_id": f"merchant_{rng.randrange(2_000):06d}",
        "merchant_category": rng.choice(("grocery", "restaurant", "fuel", "clothing")),
        "currency": rng.choice(("EUR", "USD", "GBP")),
        "latitude": round(there.latitude + rng.uniform(-0.1, 0.1), 4),
        "longitude": round(there.longitude + rng.uniform(-0.1, 0.1), 4),
    }
    return user.encode(), json.dumps(record, ensure_ascii=False).encode()


def faker_record() -> Callable[[], tuple[bytes, bytes]]:
    """What makes one transaction as tutorials do: key and value, each field asked of Faker.

    Raises:
        BenchmarkFailed: Faker is not installed.
    """
    if find_spec("faker") is None:
        raise BenchmarkFailed("Faker is not installed, install it with: .venv/bin/uv pip install faker")
    from faker import Faker

    fake = Faker()
    fake.seed_instance(7)

    def record() -> tuple[bytes, bytes]:
        first, last, user = fake.first_name(), fake.last_name(), fake.uuid4()
        content = {
            "transaction_id": fake.uuid4(),
            "user_id": user,
            "timestamp": fake.date_time_between("-1d").isoformat(),
            "first_name": first,
            "last_name": last,
            "full_name": f"{first} {last}",
            "email": fake.email(),
            "location": fake.country(),
            "transaction_location": fake.country(),
            "amount": fake.pyfloat(min_value=10, max_value=500, right_digits=2),
            "device": fake.random_element(("Mobile", "Desktop", "Tablet")),
            "merchant_id": fake.bothify("merchant_######"),
            "merchant_category": fake.random_element(("grocery", "restaurant", "fuel", "clothing")),
            "currency": fake.currency_code(),
            "latitude": float(fake.latitude()),
            "longitude": float(fake.longitude()),
        }
        return user.encode(), json.dumps(content, ensure_ascii=False).encode()

    return record
