"""One record at a time, as usual: the other side of `fraudstream bench generator`."""

from __future__ import annotations

import json
import random
import uuid
from datetime import UTC, datetime, timedelta

from include.generator.catalogue import CITIES, CULTURES, DEVICES

START = datetime(2026, 1, 1, tzinfo=UTC)


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
