"""The generator beside the loop that makes one record at a time."""

from __future__ import annotations

import random
import time
from dataclasses import replace

from include.bench.compare import Comparison, Side, compare, timed
from include.generator.bench import FAKER, START, plain_record
from include.generator.config import Config
from include.generator.profiles import simulation


def run(rounds: int = 9, events: int = 20_000) -> list[Comparison]:
    """Keys and JSON of about `events` transactions of the world, and of a tenth of them from the loop.

    Faker is no dependency: what it takes on such a machine was measured once.
    """
    batches = simulation(Config(rate=30.0)).live(START)
    next(batches).transactions()  # tables are filled
    rng = random.Random(7)

    def generated() -> float:
        count, begin = 0, time.process_time()
        while count < events:
            count += len(next(batches).transactions())
        return (time.process_time() - begin) / count

    def looped() -> float:
        few = max(1, events // 10)
        return timed(lambda: [plain_record(rng) for _ in range(few)], few)

    ours, loop = Side("generator", generated), Side("a loop of one record at a time", looped)
    (found,) = compare("generator", "transaction", [ours], loop, rounds)
    times = FAKER / found.ours_microseconds
    faker = replace(
        found,
        other="Faker, measured once",
        other_microseconds=FAKER,
        ratio=times,
        lowest=times,
        highest=times,
    )
    return [found, faker]
