"""The faults that a campaign injects. Each hits one stream, or a server that both streams need."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import psutil
import psycopg

from include.faults.acknowledged import DIE_IN_TRANSACTION
from include.faults.children import Child, members, send
from include.faults.stack import BareStack, CampaignFailed, Stack, Stream, Target
from include.platform import postgres
from include.streams import FRAUD_STREAM, TRANSACTION_STREAM

Family = Literal["kill", "pause", "cut"]
PAUSE, BROKER_PAUSE = (5, 12), (5, 20)  # seconds, at least and at most
LOCKED = {TRANSACTION_STREAM: "shop.transactions", FRAUD_STREAM: "shop.fraud_scores"}
IN_FLIGHT = 1.5  # seconds until a batch is surely being written: events flow all the while
HOLDS_LEASE = """
select pg_terminate_backend(pid) from pg_locks
where locktype = 'advisory' and granted
    and classid = hashtext('fraudstream')::oid and objid = hashtext(%s)::oid"""


class Injected(NamedTuple):
    """A fault that happened.

    at: seconds since 1970 from which recovery is counted: the kill, the cut, the end of a pause.
    streams: whose next commits are recovery; none when the next fault was injected before it.
    """

    kind: str
    family: Family
    at: float
    streams: tuple[str, ...] = ()


StackT = TypeVar("StackT", bound=Stack)
StreamT = TypeVar("StreamT", bound=Target)


@dataclass(frozen=True)
class Kind(Generic[StackT, StreamT]):
    """A kind of fault; `says` is one line for people, `weight` its share of its family.

    inject: hurts a stack, or one stream of it.
    alone: it hits what both streams need, so that no other fault is injected at the same time.
    """

    name: str
    family: Family
    weight: int
    says: str
    inject: Callable[[StackT, random.Random, StreamT], list[Injected]]
    kills: int = 1
    alone: bool = False


def both(stack: Stack) -> tuple[str, ...]:
    return tuple(stack.streams)


def _driver(
    victim: Literal["jvm", "python"], stack: BareStack, rng: random.Random, stream: Stream
) -> list[Injected]:
    at = time.time()
    if victim == "jvm":
        stream.main.kill()
    else:
        send(stream.python(), signal.SIGKILL)
    return [Injected(f"driver_{victim}", "kill", at, (stream.name,))]


def _workers(stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    at = time.time()
    send(stream.workers(), signal.SIGKILL)
    return [Injected("workers", "kill", at, (stream.name,))]


def _failpoint(point: str, stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    """Kills the driver: only a driver that starts can be armed. It dies again while it recovers."""
    stream.arm(f"{point}:{rng.randint(1, 4)}")
    ends = len(stream.ends)
    (first,) = _driver(rng.choice(["jvm", "python"]), stack, rng, stream)
    stack.wait(f"{stream.name} dies at {point}", lambda: len(stream.ends) >= ends + 2, stream)
    return [first._replace(streams=()), Injected(point, "kill", stream.ends[ends + 1].at, (stream.name,))]


def _server(
    name: Literal["kafka", "postgres"], stack: BareStack, rng: random.Random, stream: Stream
) -> list[Injected]:
    server: Child = getattr(stack, name)
    at = time.time()
    send(sorted(server.members(), key=lambda member: member.pid != server.main.pid), signal.SIGKILL)
    return [Injected(f"{name}_killed", "kill", at, both(stack))]


def _backend(stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    rows = stack.query("select pid from pg_stat_activity where usename = 'stream_writer'")
    pids = {pid for (pid,) in rows}
    at = time.time()
    victims = [member for member in stack.postgres.members() if member.pid in pids]
    send(rng.sample(victims, min(1, len(victims))), signal.SIGKILL)
    return [Injected("backend", "kill", at, both(stack))]


def _producer(stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    at = time.time()
    send(stack.producer.members(), signal.SIGKILL)
    return [Injected("producer", "kill", at, both(stack))]


def _open_transaction(stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    """The producer dies with an open transaction, which holds back what comes after it until the next one aborts it."""
    asked = stack.list.with_name(DIE_IN_TRANSACTION)
    asked.touch()
    stack.wait("the producer dies within a transaction", lambda: not asked.exists(), stack.producer)
    return [Injected("open_transaction", "kill", time.time(), both(stack))]


def _damage(damage: str, stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    stack.wait(f"{stream.name} has a checkpoint", lambda: _numbered(stream, "commits"), stream)
    at = time.time()
    with stack.lock:
        _kill_all(stream)
        if damage == "checkpoint_wiped":
            shutil.rmtree(stream.checkpoint)
        elif damage == "commits_deleted":
            _forget_last_batch(stream)
        else:
            newest = _numbered(stream, "offsets")[-1]
            newest.write_bytes(newest.read_bytes()[:-3])
    if damage == "checkpoint_torn":
        named = partial(_lease_says, stack, stream, "delete the folder")
        stack.wait(f"{stream.name} names the remedy for its torn checkpoint", named, stream)
        with stack.lock:
            _kill_all(stream)
            shutil.rmtree(stream.checkpoint)
    return [Injected(damage, "kill", at, (stream.name,))]


def _second_driver(stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    """A second driver waits for the lease; the first is killed, and the second takes over."""
    second = stream.spawn()
    try:
        waits = partial(_lease_says, stack, stream, "another driver waits")
        stack.wait(f"the second driver of {stream.name} waits", waits, stream)
    except CampaignFailed:
        send(members(second), signal.SIGKILL)
        raise
    with stack.lock:
        at = time.time()
        _kill_all(stream)
        stream.adopt(second)
    return [Injected("second_driver", "kill", at, (stream.name,))]


def _stale_driver(stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    """A driver stands still with a batch in flight, loses its lease, and goes on after another one has taken over."""
    first = stream.main
    at = time.time()
    send(stream.worker_tree(), signal.SIGSTOP)
    time.sleep(IN_FLIGHT)  # the driver plans a batch and hands it to the workers, which do not write it yet
    send(members(first), signal.SIGSTOP)
    try:
        epoch = _epoch(stack, stream)
        stack.query(HOLDS_LEASE, (stream.name,))
        with stack.lock:
            stream.start()
        stack.wait(
            f"another driver of {stream.name} commits",
            lambda: _committed_epoch(stack, stream) > epoch,
            stream,
        )
        send(members(first), signal.SIGCONT)
        stack.wait(f"the stale driver of {stream.name} ends", lambda: first.poll() is not None, stream, 40)
    finally:
        send(members(first), signal.SIGKILL)
    return [Injected("stale_driver", "pause", at, (stream.name,))]


def _pause(
    name: Literal["kafka", "postgres"], stack: BareStack, rng: random.Random, stream: Stream
) -> list[Injected]:
    server: Child = getattr(stack, name)
    stopped = server.members()
    send(stopped, signal.SIGSTOP)
    try:
        time.sleep(rng.uniform(*(BROKER_PAUSE if name == "kafka" else PAUSE)))
    finally:
        send(stopped, signal.SIGCONT)
    return [Injected(f"{name}_paused", "pause", time.time(), both(stack))]


def _no_room(
    name: Literal["kafka", "postgres", "checkpoint"], stack: BareStack, rng: random.Random, stream: Stream
) -> list[Injected]:
    """No file may grow (RLIMIT_FSIZE): writes fail with EFBIG where a full disk would give ENOSPC."""
    victim: Child = stream if name == "checkpoint" else getattr(stack, name)
    _limit(victim.members(), "0")
    try:
        time.sleep(rng.uniform(*PAUSE))
    finally:
        _limit(victim.members(), "unlimited")  # and those that were started meanwhile
    streams = (stream.name,) if name == "checkpoint" else both(stack)
    return [Injected(f"{name}_disk_full", "pause", time.time(), streams)]


def _limit(processes: list[psutil.Process], size: str) -> None:
    """Sets the soft limit of file sizes as the processes' own user: root may not everywhere do it for another one."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            command = ["prlimit", "--pid", str(process.pid), f"--fsize={size}:"]
            other = process.uids().real != os.geteuid()
            done = subprocess.run(
                postgres.unprivileged(command) if other else command,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode and process.is_running():
                raise CampaignFailed(f"no limit for {process}: {done.stderr.strip()}")


def _silence(stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    stream.proxy.silence(True)
    try:
        time.sleep(rng.uniform(*PAUSE))
    finally:
        stream.proxy.silence(False)
    return [Injected("network_silent", "pause", time.time(), (stream.name,))]


def _locked(stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    with psycopg.connect(stack.superuser()) as holder:
        holder.execute(f"lock table {LOCKED[stream.name]} in access exclusive mode")
        time.sleep(rng.uniform(*PAUSE))
        holder.rollback()
    return [Injected("table_locked", "pause", time.time(), (stream.name,))]


def _used_up(stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    """Others hold every connection that PostgreSQL gives while the stream has to connect again."""
    with ExitStack() as held:
        with suppress(psycopg.OperationalError):
            while True:
                held.enter_context(psycopg.connect(stack.settings.conninfo("app")))
        stream.proxy.cut()
        time.sleep(rng.uniform(*PAUSE))
    return [Injected("connections_used_up", "pause", time.time(), (stream.name,))]


def _terminated(stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    at = time.time()
    stack.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'stream_writer'")
    return [Injected("backends_terminated", "cut", at, both(stack))]


def _cut(stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    at = time.time()
    stream.proxy.cut()
    return [Injected("connections_cut", "cut", at, (stream.name,))]


def _reply_lost(stack: BareStack, rng: random.Random, stream: Stream) -> list[Injected]:
    stream.proxy.lose_next_commit_reply()
    stack.wait(f"{stream.name} commits", stream.proxy.reply_lost.is_set, stream)
    return [Injected("commit_reply_lost", "cut", time.time(), (stream.name,))]


def _kill_all(stream: Stream) -> None:
    while left := stream.members():
        send(left, signal.SIGKILL)
        stream.main.poll()
        time.sleep(0.02)


def _forget_last_batch(stream: Stream) -> None:
    """Deletes the last commit and what was begun after it, so that Spark reads that batch again."""
    last = _numbered(stream, "commits")[-1]
    for begun in _numbered(stream, "offsets"):
        if int(begun.name) > int(last.name):
            begun.unlink()
    last.unlink()


def _numbered(stream: Stream, kind: str) -> list[Path]:
    files = [path for path in (stream.checkpoint / kind).glob("*") if path.name.isdecimal()]
    return sorted(files, key=lambda path: int(path.name))


def _lease_says(stack: BareStack, stream: Stream, words: str) -> bool:
    rows = stack.query("select detail from shop.stream_leases where stream = %s", (stream.name,))
    return words in rows[0][0]


def _epoch(stack: BareStack, stream: Stream) -> int:
    return int(stack.query("select epoch from shop.stream_leases where stream = %s", (stream.name,))[0][0])


def _committed_epoch(stack: BareStack, stream: Stream) -> int:
    query = "select max(epoch) from shop.stream_offsets where stream = %s"
    return int(stack.query(query, (stream.name,))[0][0])


def _of(
    function: Callable[[Any, BareStack, random.Random, Stream], list[Injected]], argument: str
) -> Callable[[BareStack, random.Random, Stream], list[Injected]]:
    return partial(function, argument)


KINDS: dict[str, Kind[BareStack, Stream]] = {
    kind.name: kind
    for kind in (
        Kind("driver_jvm", "kill", 2, "a driver's JVM killed", _of(_driver, "jvm")),
        Kind("driver_python", "kill", 2, "a driver's Python process killed", _of(_driver, "python")),
        Kind("workers", "kill", 2, "the Python workers that write killed", _workers),
        Kind("before_write", "kill", 2, "driver and worker killed before a write", _of(_failpoint, "before_write"), 2),
        Kind("mid_copy", "kill", 2, "... in the middle of a COPY", _of(_failpoint, "mid_copy"), 2),
        Kind("after_commit", "kill", 2, "... after COMMIT", _of(_failpoint, "after_commit"), 2),
        Kind("before_checkpoint", "kill", 2, "... before the checkpoint", _of(_failpoint, "before_checkpoint"), 2),
        Kind("producer", "kill", 1, "the producer killed", _producer, alone=True),
        Kind("open_transaction", "kill", 1, "the producer killed within a transaction", _open_transaction, alone=True),
        Kind("kafka_killed", "kill", 1, "the broker killed", _of(_server, "kafka"), alone=True),
        Kind("postgres_killed", "kill", 1, "PostgreSQL killed, all of it", _of(_server, "postgres"), alone=True),
        Kind("backend", "kill", 1, "one process of PostgreSQL killed", _backend, alone=True),
        Kind("checkpoint_wiped", "kill", 1, "stream killed, checkpoint deleted", _of(_damage, "checkpoint_wiped")),
        Kind("commits_deleted", "kill", 1, "..., last commit deleted", _of(_damage, "commits_deleted")),
        Kind("checkpoint_torn", "kill", 1, "..., last offsets file cut off", _of(_damage, "checkpoint_torn")),
        Kind("second_driver", "kill", 1, "a second driver waits, the first is killed", _second_driver),
        Kind("stale_driver", "pause", 1, "a driver stopped, replaced, and continued", _stale_driver),
        Kind("kafka_paused", "pause", 1, "the broker stopped for 5 to 20 s", _of(_pause, "kafka"), alone=True),
        Kind("postgres_paused", "pause", 1, "PostgreSQL stopped for 5 to 12 s", _of(_pause, "postgres"), alone=True),
        Kind("kafka_disk_full", "pause", 1, "the broker cannot write files", _of(_no_room, "kafka"), alone=True),
        Kind("postgres_disk_full", "pause", 1, "PostgreSQL cannot write files", _of(_no_room, "postgres"), alone=True),
        Kind("checkpoint_disk_full", "pause", 1, "a stream cannot write files", _of(_no_room, "checkpoint")),
        Kind("network_silent", "pause", 1, "nothing passes between stream and PostgreSQL", _silence),
        Kind("table_locked", "pause", 1, "a table locked by somebody else", _locked),
        Kind("connections_used_up", "pause", 1, "others hold all connections", _used_up, alone=True),
        Kind("connections_cut", "cut", 1, "a stream's connections reset", _cut),
        Kind("backends_terminated", "cut", 1, "the database ends the streams' sessions", _terminated, alone=True),
        Kind("commit_reply_lost", "cut", 1, "COMMIT succeeds, its reply is lost", _reply_lost),
    )
}  # fmt: skip
