"""The first design's transactions: nobody comes twice, and each fraud is given away by one field."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.generator.batch import LABELS, MICROSECONDS, TRUTH, Batch, event_rows, label_rows, uuids
from include.generator.config import Config
from include.generator.population import COUNTRY_NAMES, names_of
from include.generator.simulation import Simulation
from include.generator.volume import Volume

DEVICES = pa.array(["Mobile", "Desktop", "Tablet"])
ODD_DEVICES = pa.array(["Microwave", "Toaster", "Smart Fridge", "Washing Machine"])
COUNTRIES = pa.array(COUNTRY_NAMES)
KINDS = pa.array([None, "large_amount", "unknown_device", "location_change"])
HONEST_AMOUNT, FRAUD_AMOUNT = (10.0, 500.0), (2_000.0, 15_000.0)


class Original(Simulation):
    """A new user for each transaction; fraud has a large amount, an odd device or another country."""

    def __init__(self, config: Config):
        super().__init__(config)
        self._key = [config.seed, round(config.fraud_rate * 1e6)]

    def slot(self, start: int, volume: Volume) -> Batch:
        rng = np.random.default_rng([*self._key, 5, *volume.key, start])
        end = start + volume.slot(start)
        n = volume.count(start, end)
        first, last = volume.clip(start, end)
        times = np.sort(first + (rng.random(n) * (last - first)).astype(np.int64))
        kind = np.where(rng.random(n) < self.config.fraud_rate, rng.integers(1, 4, n), 0)
        country = rng.integers(0, len(COUNTRIES), n)
        elsewhere = (country + rng.integers(1, len(COUNTRIES), n)) % len(COUNTRIES)
        amount = np.where(kind == 1, rng.uniform(*FRAUD_AMOUNT, n), rng.uniform(*HONEST_AMOUNT, n))
        device = DEVICES.take(pa.array(rng.integers(0, len(DEVICES), n)))
        odd_device = ODD_DEVICES.take(pa.array(rng.integers(0, len(ODD_DEVICES), n)))
        ids, users = uuids(rng, n), uuids(rng, n)
        who = names_of(
            country, rng.integers(0, 1 << 32, n), pa.array(rng.integers(1, 10_000, n)).cast(pa.string())
        )
        time = pa.array(times, MICROSECONDS)
        columns = {
            "transaction_id": ids,
            "user_id": users,
            "timestamp": time,
            "first_name": who["first_name"],
            "last_name": who["last_name"],
            "full_name": who["full_name"],
            "email": who["email"],
            "location": COUNTRIES.take(pa.array(country)),
            "transaction_location": COUNTRIES.take(pa.array(np.where(kind == 3, elsewhere, country))),
            "amount": pa.array(np.rint(amount * 100) / 100),
            "device": pc.if_else(pa.array(kind == 2), odd_device, device),
        }
        if self.config.truth_in_events:
            columns["is_fraud"] = pa.array(kind > 0)
        truth = pa.table(
            [ids, users, time, pa.array(kind > 0), KINDS.take(pa.array(kind)), pa.nulls(n, pa.string())],
            schema=TRUTH,
        )
        events, labels = event_rows(columns), LABELS.empty_table()
        if not self.config.truth_in_events:  # as soon as the transaction happens
            fraud = pa.array(np.flatnonzero(kind > 0))
            known = truth.select(["is_fraud", "scenario_id"]).take(fraud)
            values = {name: known[name] for name in known.column_names} | {"known_at": time.take(fraud)}
            labels = label_rows(events, fraud, values)
        return Batch(times, events, truth, labels)
