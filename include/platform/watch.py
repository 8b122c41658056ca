"""Decides which part of the platform is there and does nothing.

supervisord and Docker see only processes that end. A part that hangs has a process and gives no sign of life: no
answer over its own protocol, or no new heartbeat. `include.platform.watchdog` looks and ends it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypedDict

from include.settings import Settings

START_SECONDS = 180.0  # a start may take so long until the first sign of life
STEADY_SECONDS = 30.0  # alive for so long after a restart: it helped
MOST_DOUBLINGS = 6

KEPT_RESTARTS = 100
STALE_SECONDS = 30.0  # the record of a watchdog that works is younger


class Part(Protocol):
    """Something that can hang.

    patience: seconds of silence after which it is ended.
    needs: the parts without which it cannot answer; its silence counts only while they answer.
    """

    @property
    def name(self) -> str: ...
    @property
    def patience(self) -> float: ...
    @property
    def needs(self) -> tuple[str, ...]: ...


class Answer(NamedTuple):
    """What a part answered.

    beat: differs from the last answer's when the part did something since.
    usable: False for a part that lives and cannot serve others yet, as PostgreSQL during recovery.
    pid: the process that the answer speaks of, where no supervisor knows it.
    """

    beat: object
    usable: bool = True
    pid: int | None = None


class Process(NamedTuple):
    """The main process of a part, and the seconds since its start."""

    pid: int
    age: float


class Hang(NamedTuple):
    """A part whose process is to be ended: how long it was silent, and how often that happened in a row before."""

    part: str
    pid: int
    silent: float
    repeated: int


@dataclass
class _State:
    """What is known of a part's present process; times in seconds of the watch's clock."""

    pid: int | None = None
    beat: object = None
    quiet_since: float = 0.0
    started_at: float | None = None
    repeated: int = 0


@dataclass
class Watch:
    """Looks at parts again and again, and names those that hang.

    Silence is measured between looks with the caller's clock, never by comparing a heartbeat with the time of day: a
    machine that slept, or whose clock was set, has no hanging parts. After each restart that did not help, the next
    one comes after twice the time.

    Args:
        parts: those that are watched.
    """

    parts: Iterable[Part]
    _states: dict[str, _State] = field(default_factory=dict)

    def look(self, now: float, processes: Mapping[str, Process], answers: Mapping[str, Answer]) -> list[Hang]:
        """The parts that hang now, by what a look at all of them gave.

        Args:
            now: seconds of a monotonic clock.
            processes: the parts that have a process; one without has ended or is stopped, which is no hang.
            answers: the parts that answered.
        """
        hangs = []
        for part in self.parts:
            state = self._states.setdefault(part.name, _State())
            process = processes.get(part.name)
            if process is None:
                state.pid = None
                continue
            self._notice_life(state, now, process, answers.get(part.name))
            if not all(name in answers and answers[name].usable for name in part.needs):
                state.quiet_since = now
            silent = now - state.quiet_since
            limit = START_SECONDS if state.started_at is None else part.patience
            if silent > limit * 2 ** min(state.repeated, MOST_DOUBLINGS):
                hangs.append(Hang(part.name, process.pid, silent, state.repeated))
                state.repeated += 1
                state.quiet_since = now
        return hangs

    def _notice_life(self, state: _State, now: float, process: Process, answer: Answer | None) -> None:
        beat = answer.beat if answer else state.beat
        if process.pid != state.pid:  # an answer or heartbeat of the process before says nothing of this one
            state.pid, state.beat, state.quiet_since = process.pid, beat, now
            state.started_at = now if process.age > START_SECONDS else None
        elif beat != state.beat:
            state.beat, state.quiet_since = beat, now
            state.started_at = now if state.started_at is None else state.started_at
            if now - state.started_at >= STEADY_SECONDS:
                state.repeated = 0

    def silent(self, now: float) -> dict[str, float]:
        """Seconds since the last sign of life, of the parts that have a process."""
        return {
            name: now - state.quiet_since for name, state in self._states.items() if state.pid is not None
        }


class Restart(TypedDict):
    """A restart for the record: when (ISO 8601), after which silence, and which one in a row it is."""

    part: str
    at: str
    silent_seconds: float
    in_a_row: int


class Record(TypedDict):
    """What the watchdog last saw, by part, and what it did."""

    silent_seconds: dict[str, float]
    restarts: list[Restart]


def read(settings: Settings) -> Record:
    """The watchdog's record; an empty one before its first look."""
    path = settings.home / "watchdog.json"
    return json.loads(path.read_text()) if path.exists() else {"silent_seconds": {}, "restarts": []}


def write(settings: Settings, record: Record) -> None:
    """Writes the record, whole or not at all."""
    path = settings.home / "watchdog.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps({**record, "restarts": record["restarts"][-KEPT_RESTARTS:]}, indent=1))
    part.replace(path)


def works(settings: Settings) -> bool:
    """True when the watchdog has looked lately."""
    with suppress(FileNotFoundError):
        return time.time() - (settings.home / "watchdog.json").stat().st_mtime < STALE_SECONDS
    return False
