"""A reproducible flood of Kafka records: valid events, and events that went wrong in every way we know.

`messages` is used with decode directly and, by the million, through the real stream.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random

from tests.builders import NOW, event

Event = dict[str, object]
Mutation = Callable[[Random, Event], bytes | None]

NASTY_JSON = (
    b"null true false 0 -0.0 -1 1e400 -1e400 1e-400 NaN Infinity -Infinity 007 1. .5 0x10 1_000 12.345 1e2 "
    b"9999999999.99 10000000000 [] {} [[1]] nul +1"
).split() + [
    b'""',
    b'" "',
    b'"\\u0000"',
    b'"\\ud800"',
    b'"\\udc00x"',
    b'"\\ud83d\\ude00"',
    b'"\xff"',
    b'"\xc0\x80"',
    b'"\n"',
    b'"\\""',
    b'"\\\\"',
    b'"\\q"',
    b'"NaN"',
    b'"infinity"',
    b'"12.50"',
    b'"2026-02-30T00:00:00Z"',
    b'"294277-01-01T00:00:00Z"',
    b'"0001-01-01T00:00:00+14:00"',
    b'"9999-12-31T23:59:59-14:00"',
    b'"2026-11-20 10:00:00"',
    b'"1763640000"',
    b"1763640000",
    b"1763640000000",
    b"'single'",
    b'"=cmd|calc!A1"',
    b'"\'; drop table shop.transactions; --"',
    '"<script>\u202eمرحبا 👩\u200d🚀"'.encode(),
    b"9" * 5_000,
    b"0." + b"0" * 5_000 + b"1",
    b'"' + b"x" * 5_000 + b'"',
    b"[" * 40 + b"]" * 40,
    b"[" * 5_000,
    b'{"a":1,"a":2}',
]


def messages(count: int, seed: int, of: Callable[..., Event] = event) -> Iterator[tuple[bytes, bytes | None]]:
    """Key and value of records, the same for the same arguments; about a third of them are valid.

    Args:
        of: what builds a valid event: `event` for the transactions topic, `label_event` for the labels topic.
    """
    random = Random(seed)
    names, weights = zip(*MUTATIONS.items(), strict=True)
    earlier: list[Event] = []
    for number in range(count):
        content = of(
            transaction_id=f"fuzz-{seed}-{number}",
            user_id=f"user-{random.randrange(500):04d}",
            timestamp=NOW - timedelta(seconds=random.randrange(86_400)),
        )
        if earlier and random.random() < 0.05:
            content = dict(random.choice(earlier))
            if random.random() < 0.5:
                content["timestamp"] = (NOW - timedelta(days=2)).isoformat()
        elif len(earlier) < 1_000:
            earlier.append(dict(content))
        key = str(content["user_id"]).encode()
        mutate = random.choices(names, weights)[0]
        yield key, mutate(random, content)


def _text(content: Event) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def valid(random: Random, content: Event) -> bytes:
    return _text(content)


def valid_in_another_form(random: Random, content: Event) -> bytes:
    fields = list(content.items())
    random.shuffle(fields)
    return json.dumps(dict(fields), indent=random.choice([None, 2]), separators=(",", ":")).encode()


def fields_dropped(random: Random, content: Event) -> bytes:
    for name in random.sample(list(content), random.randrange(1, 4)):
        del content[name]
    return _text(content)


def field_replaced(random: Random, content: Event) -> bytes:
    name = random.choice(list(content))
    content[name] = "@@@"
    return _text(content).replace(b'"@@@"', random.choice(NASTY_JSON), 1)


def field_added(random: Random, content: Event) -> bytes:
    start = _text(content)[:-1]
    return start + b', "added": ' + random.choice(NASTY_JSON) + b"}"


def key_twice(random: Random, content: Event) -> bytes:
    name = random.choice(list(content))
    return b"{" + _text({name: content[name]})[1:-1] + b", " + _text(content)[1:]


def cut(random: Random, content: Event) -> bytes:
    whole = _text(content)
    return whole[: random.randrange(len(whole))]


def bytes_changed(random: Random, content: Event) -> bytes:
    broken = bytearray(_text(content))
    for _ in range(random.randrange(1, 6)):
        broken[random.randrange(len(broken))] = random.randrange(256)
    return bytes(broken)


def bytes_moved(random: Random, content: Event) -> bytes:
    whole = _text(content)
    start, middle, end = sorted(random.randrange(len(whole)) for _ in range(3))
    return whole[:start] + whole[middle:end] + whole[start:middle] + whole[end:]


def two_in_one(random: Random, content: Event) -> bytes:
    whole = _text(content)
    return whole[: random.randrange(len(whole))] + whole[random.randrange(len(whole)) :]


def other_encoding(random: Random, content: Event) -> bytes:
    return (
        _text(content)
        .decode()
        .encode(random.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"]))
    )


def other_format(random: Random, content: Event) -> bytes:
    whole = _text(content)
    return random.choice(
        [gzip.compress(whole, 1, mtime=0), b"\0\0\0\0\x07" + whole, b"[" + whole + b"]", whole * 2]
    )


def noise(random: Random, content: Event) -> bytes:
    return random.randbytes(random.randrange(200))


def tombstone(random: Random, content: Event) -> None:
    return None


def huge(random: Random, content: Event) -> bytes:
    content["device"] = "x" * 70_000
    return _text(content)


MUTATIONS: dict[Mutation, float] = {
    valid: 20,
    valid_in_another_form: 10,
    fields_dropped: 6,
    field_replaced: 20,
    field_added: 6,
    key_twice: 4,
    cut: 6,
    bytes_changed: 10,
    bytes_moved: 4,
    two_in_one: 4,
    other_encoding: 3,
    other_format: 3,
    noise: 3,
    tombstone: 1,
    huge: 0.05,
}
