"""The generator beside the loop that makes one record at a time, and beside Faker."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from importlib.util import find_spec

from include.bench.compare import BenchmarkFailed, Comparison, Side, compare, timed
from include.generator.bench import START, plain_record
from include.generator.config import Config
from include.generator.profiles import simulation


def run(rounds: int = 9, events: int = 20_000) -> list[Comparison]:
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
