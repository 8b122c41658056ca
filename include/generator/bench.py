"""How fast the generator is, beside the usual loop that makes one record at a time."""

from __future__ import annotations

import json
import random
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from include.generator.catalogue import CITIES, CULTURES, DEVICES
from include.generator.config import Config
from include.generator.profiles import simulation

FAKER = 250.0  # microseconds for a record from Faker, as measured on a machine with 2 cores
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Result:
    """Microseconds of processor time for one transaction as JSON bytes."""

    events: int
    generator: float
    plain_loop: float
    faker: float = FAKER

    @property
    def ratio(self) -> float:
        """How many times faster than Faker."""
        return self.faker / self.generator

    @property
    def plain_ratio(self) -> float:
        """How many times faster than the loop, which draws from short lists where Faker does much more."""
        return self.plain_loop / self.generator


def run(events: int = 200_000, seed: int = 7) -> Result:
    """Generates about `events` transactions as keys and JSON, and a tenth of them in the loop.

    As usual with short benchmarks, the best of several rounds counts: others only measure the machine's load.
    """
    world = simulation(Config(seed=seed, rate=30.0))
    batches = world.live(START)
    next(batches).transactions()  # tables are filled
    done, ours = 0, []
    while done < events:
        begin = time.process_time()
        count = len(next(batches).transactions())
        ours.append((time.process_time() - begin) / count)
        done += count
    rng, loop, count = random.Random(seed), [], max(1, events // 100)
    for _ in range(10):
        begin = time.process_time()
        for _ in range(count):
            plain_record(rng)
        loop.append((time.process_time() - begin) / count)
    return Result(done, min(ours) * 1e6, min(loop) * 1e6)


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
