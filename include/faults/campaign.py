"""A round of the campaign: starts the stack, injects the planned faults while events flow, and closes the books."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg

from include.broker import kafka
from include.faults import books
from include.faults.acknowledged import Acknowledged, Reader
from include.faults.books import Books
from include.faults.events import Events
from include.faults.kinds import KINDS, Family, Injected, Kind
from include.faults.stack import BareStack, CampaignFailed, Stack, Target

SETTLE_SECONDS = 300
CLOSING_SECONDS, CLOSED_A_SECOND = 60.0, 4_000  # kept free at the end, and for so many events a second
FIRST_RATE = 50  # events a second until the streams have begun
PAST = timedelta(
    days=3
)  # event times start before now, so that none lies in the future however many there are


@dataclass(frozen=True)
class Plan:
    """What a round does.

    seconds: after which no further fault is injected, but for what closing the books needs.
    kinds: the kinds of faults; a family without one of them injects nothing.
    stack: makes what is hurt, from a folder, the events and how many of them.
    """

    events: int = 100_000
    kills: int = 30
    pauses: int = 3
    cuts: int = 3
    seconds: float = 600
    kinds: Sequence[Kind[Any, Any]] = tuple(KINDS.values())
    seed: int = 1
    stack: Callable[[Path, Events, int], Stack] = BareStack

    def faults(self, rng: random.Random) -> list[Kind[Any, Any]]:
        """The kinds to inject, in order: each family's share, every kind of it before one comes again."""
        chosen = []
        families: dict[Family, int] = {"kill": self.kills, "pause": self.pauses, "cut": self.cuts}
        for family, wanted in families.items():
            chosen += _share(family, wanted, self.kinds, rng)
        rng.shuffle(chosen)
        return chosen


def _share(
    family: Family, wanted: int, kinds: Sequence[Kind[Any, Any]], rng: random.Random
) -> list[Kind[Any, Any]]:
    pool = [kind for kind in kinds if kind.family == family]
    chosen: list[Kind[Any, Any]] = []
    left = wanted
    while any(0 < kind.kills <= left for kind in pool):  # what is left may be too little for any of them
        once = rng.sample(pool, len(pool))
        lot = once + [kind for kind in once for _ in range(kind.weight - 1)]
        for kind in lot:
            if kind.kills <= left:
                chosen.append(kind)
                left -= kind.kills
    return chosen


@dataclass
class Fault:
    """A fault that was injected: when, at which stream, and the seconds until what came after it was committed.

    recovered is None when it never was, or when the next fault came first (then `measured` is False).
    """

    kind: str
    family: Family
    stream: str
    at: float
    measured: bool = True
    recovered: float | None = None


@dataclass
class Round:
    """What a round did and found."""

    plan: Plan
    started: datetime
    seconds: float = 0.0
    first_commit_seconds: float = 0.0
    planned: int = 0
    faults: list[Fault] = field(default_factory=list)
    books: Books = field(default_factory=Books)
    failures: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Books closed, and the stack came back from every fault by itself."""
        return self.books.closed and not self.failures


def run_round(plan: Plan, say: Callable[[str], None], *, keep: bool = False) -> Round:
    """Runs one round in a temporary folder, which is kept when asked, or when the round is not good.

    Args:
        say: gets a line for each thing that happens.

    Raises:
        CampaignFailed: the stack did not start.
    """
    home = Path(tempfile.mkdtemp(prefix="fraudstream-faults-"))
    done = None
    try:
        done = _run(plan, say, home)
        return done
    finally:
        if keep or done is None or not done.good:
            say(f"kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


def _run(plan: Plan, say: Callable[[str], None], home: Path) -> Round:
    began = time.monotonic()
    done = Round(plan, datetime.now(UTC))
    rng = random.Random(plan.seed)
    faults = plan.faults(rng)
    done.planned = len(faults)

    def tell(text: str) -> None:
        say(f"{time.monotonic() - began:6.1f} s  {text}")

    events = Events(plan.seed, done.started - PAST)
    with plan.stack(home, events, plan.events) as stack, Flow(stack, len(faults)) as flow:
        done.first_commit_seconds = time.monotonic() - began
        tell("the streams commit")
        for together in steps(faults, len(stack.streams)):
            if time.monotonic() - began > plan.seconds - CLOSING_SECONDS - plan.events / CLOSED_A_SECOND:
                tell(f"no time for {flow.faults_left} more faults")
                break
            for fault in _inject_together(done, flow, together, rng):
                flow.faults_left -= 1
                how = (
                    "did not recover"
                    if fault.recovered is None
                    else f"recovered after {fault.recovered:.1f} s"
                )
                tell(f"{len(faults) - flow.faults_left}/{len(faults)} {fault.kind}, {fault.stream}: {how}")
            time.sleep(rng.uniform(0.2, 1.5))
        done.failures += flow.finish()
        tell("closing the books")
        done.books = books.close(stack)
    done.seconds = time.monotonic() - began
    return done


def steps(faults: Sequence[Kind[Any, Any]], streams: int) -> Iterator[tuple[Kind[Any, Any], ...]]:
    """The faults in order, so many at once as there are streams where each hits one stream only."""
    waiting: list[Kind[Any, Any]] = []
    for kind in faults:
        if kind.alone:
            yield (kind,)
            continue
        waiting.append(kind)
        if len(waiting) == streams:
            yield tuple(waiting)
            waiting.clear()
    if waiting:
        yield tuple(waiting)


def _inject_together(
    done: Round, flow: Flow, kinds: Sequence[Kind[Any, Any]], rng: random.Random
) -> list[Fault]:
    """Injects each fault into a stream of its own, and waits until what they hit has recovered."""
    streams = rng.sample(list(flow.stack.streams.values()), len(kinds))
    dice = [random.Random(rng.random()) for _ in kinds]
    with ThreadPoolExecutor(len(kinds)) as pool:
        return list(pool.map(partial(_inject, done, flow), kinds, dice, streams))


def _inject(done: Round, flow: Flow, kind: Kind[Any, Any], rng: random.Random, stream: Target) -> Fault:
    """Injects a fault and waits until the streams that it hit commit what came after it; the last that happened."""
    try:
        injected = kind.inject(flow.stack, rng, stream)
    except (CampaignFailed, psycopg.Error, psutil.Error) as error:
        done.failures.append(f"{kind.name}, {stream.name}: {error}")
        injected = [Injected(kind.name, kind.family, time.time(), (stream.name,))]
    faults = [_follow(done, flow, happened, stream) for happened in injected]
    return faults[-1]


def _follow(done: Round, flow: Flow, injected: Injected, stream: Target) -> Fault:
    where = " and ".join(injected.streams or (stream.name,))
    fault = Fault(injected.kind, injected.family, where, injected.at, measured=bool(injected.streams))
    done.faults.append(fault)
    if injected.streams:
        fault.recovered = flow.recovery(injected)
        if fault.recovered is None:
            seconds = flow.stack.recovery_seconds
            done.failures.append(f"{where} did not recover from {injected.kind} within {seconds:.0f} s")
    return fault


class Flow:
    """Lets the events flow for as long as there are faults to inject, and watches them arrive.

    Raises:
        CampaignFailed: a stream does not begin.
    """

    def __init__(self, stack: Stack, faults: int):
        self.stack = stack
        self.faults_left = faults
        self._began: float | None = None
        self._faults = faults
        self._allowed = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flow", daemon=True)

    def __enter__(self) -> Flow:
        self._thread.start()
        try:
            for stream in self.stack.streams.values():
                query = "select 1 from campaign.journal where stream = %s limit 1"
                begun = partial(self.stack.query, query, (stream.name,))
                self.stack.wait(f"{stream.name} commits", begun, stream)
        except BaseException:
            self.__exit__()
            raise
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        """A few events until the streams begin, then so many that some are left for as long as there are faults."""
        last = time.monotonic()
        while not self._closed.wait(0.1):
            now = time.monotonic()
            left = self.stack.count - self._allowed
            self._allowed += min(
                left, left * self._share(now - last) if self._began else FIRST_RATE * (now - last)
            )
            self.stack.allow(int(self._allowed))
            last = now

    def _share(self, seconds: float) -> float:
        """The part that some seconds are of what is probably left of the time."""
        injected = self._faults - self.faults_left
        if self._began is None:
            return 0.0
        fault = (time.monotonic() - self._began) / injected if injected else self.stack.fault_seconds
        return min(1.0, seconds / ((self.faults_left + 1) * fault))

    def recovery(self, injected: Injected) -> float | None:
        """Seconds from a fault until the streams have recovered from it; None when they do not in time."""
        deadline = time.monotonic() + self.stack.recovery_seconds
        acknowledged = Reader(self.stack.list)
        first: Acknowledged | None = None
        while time.monotonic() < deadline:
            later = (event for event in acknowledged.new() if event.at > injected.at and not event.is_label)
            first = first or next(later, None)
            if first is not None:
                with suppress(psycopg.OperationalError):  # PostgreSQL may be what recovers
                    recovered = self.stack.recovered(injected.at, injected.streams, first)
                    if recovered is not None:
                        return recovered - injected.at
            time.sleep(0.05)
        return None

    def finish(self) -> list[str]:
        """Sends the rest, waits until all is read, and stops the streams; says what did not happen in time."""
        stack, failures = self.stack, []
        self._closed.set()
        self._thread.join()
        stack.allow(stack.count)
        waits: list[tuple[str, Callable[[], object], Target]]
        waits = [("all events are acknowledged", lambda: stack.producer.finished, stack.producer)]
        waits += [
            (f"{stream.name} has read everything", partial(_is_at_the_end, stack, stream.name), stream)
            for stream in stack.streams.values()
        ]
        for what, condition, target in waits:
            try:
                stack.wait(what, condition, target, SETTLE_SECONDS)
            except CampaignFailed as error:
                failures.append(str(error))
        failures += [f"{name} did not stop" for name in stack.stop_streams()]
        return failures


def _is_at_the_end(stack: Stack, stream: str) -> bool:
    rows = stack.query(
        "select topic, partition, next_offset from shop.stream_offsets where stream = %s", (stream,)
    )
    topics = (stack.settings.transactions_topic, stack.settings.labels_topic)
    ends = {
        (topic, partition, end)
        for topic in topics
        for partition, end in kafka.end_offsets(stack.settings, topic).items()
    }
    return ends <= set(rows)
