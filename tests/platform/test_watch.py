"""What hangs and what does not, decided with a clock and answers of the test's own."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from include.platform.watch import START_SECONDS, STEADY_SECONDS, Answer, Process, Watch


class Part(NamedTuple):
    name: str
    patience: float = 15.0
    needs: tuple[str, ...] = ()


class World:
    """Parts that beat every second unless they are in `hung`; one that is ended starts anew after `start` seconds."""

    def __init__(self, *parts: Part, start: float = 20.0):
        self.watch = Watch(parts)
        self.now = 1_000.0
        self.start = start
        self.born = dict.fromkeys((part.name for part in parts), self.now - 3600)
        self.pids = {part.name: 100 * (i + 1) for i, part in enumerate(parts)}
        self.beats = {part.name: Answer(0) for part in parts}
        self.hung: set[str] = set()
        self.gone: set[str] = set()
        self.unusable: set[str] = set()
        self.ended: list[tuple[str, float]] = []

    def run(self, seconds: float, step: float = 1.0) -> list[tuple[str, float]]:
        """Lets time pass; the parts that were ended, and when (seconds since the beginning of the run)."""
        began = self.now
        before = len(self.ended)
        while self.now < began + seconds:
            self.now += step
            for name in self.pids:
                alive = name not in self.hung and self.now - self.born[name] >= self.start
                if alive and name not in self.gone:
                    self.beats[name] = Answer(self.now, usable=name not in self.unusable)
            silent = {name for name in self.pids if not self._answers(name)}
            answers = {name: beat for name, beat in self.beats.items() if name not in silent}
            processes = {
                name: Process(pid, self.now - self.born[name])
                for name, pid in self.pids.items()
                if name not in self.gone
            }
            for hang in self.watch.look(self.now, processes, answers):
                assert hang.pid == self.pids[hang.part]
                self.ended.append((hang.part, self.now - began))
                self.restart(hang.part)
        return self.ended[before:]

    def _answers(self, name: str) -> bool:
        return name not in self.gone and name not in self.hung

    def restart(self, name: str) -> None:
        self.pids[name] += 1
        self.born[name] = self.now


def test_parts_that_live_are_left_alone():
    world = World(Part("postgres"), Part("scheduler", needs=("postgres",)))
    assert world.run(3_600) == []


def test_a_silent_part_is_ended_after_its_patience_and_the_others_are_not():
    world = World(Part("postgres"), Part("kafka", 20))
    world.run(60)
    world.hung = {"kafka"}
    ((name, seconds),) = world.run(30)
    assert name == "kafka" and 20 < seconds <= 22


def test_a_heartbeat_that_stands_still_is_silence():
    """The scheduler's heartbeat is read from the database, which answers for it when it hangs."""

    class Frozen(World):
        def _answers(self, name: str) -> bool:
            return name not in self.gone  # the old beat is still there

    world = Frozen(Part("scheduler"))
    world.run(60)
    world.hung = {"scheduler"}
    ((name, seconds),) = world.run(20)
    assert name == "scheduler" and 15 < seconds <= 17


def test_a_dependency_that_is_away_is_no_hang_and_the_time_counts_from_its_return():
    world = World(
        Part("postgres"), Part("api", needs=("postgres",)), Part("scheduler", needs=("postgres", "api"))
    )
    world.run(60)
    world.gone, world.hung = {"postgres"}, {"api", "scheduler"}
    assert world.run(3_600) == []
    world.gone, world.hung = set(), {"scheduler"}
    ((name, seconds),) = world.run(20)
    assert name == "scheduler" and 15 <= seconds <= 18


def test_a_dependency_that_recovers_lives_but_does_not_count_as_back():
    world = World(Part("postgres"), Part("api", needs=("postgres",)))
    world.run(60)
    world.unusable, world.hung = {"postgres"}, {"api"}
    assert world.run(3_600) == []


def test_a_hung_dependency_is_ended_and_what_needs_it_is_not():
    world = World(Part("postgres", 20), Part("api", needs=("postgres",)))
    world.run(60)
    world.hung = {"postgres", "api"}
    assert [name for name, _ in world.run(25)] == ["postgres"]
    world.hung = set()
    assert world.run(600) == []


def test_a_slow_start_is_no_hang_until_it_takes_too_long():
    world = World(Part("api"), start=START_SECONDS - 5)
    world.restart("api")
    assert world.run(600) == []
    world.start = START_SECONDS + 60
    world.restart("api")
    assert [name for name, _ in world.run(START_SECONDS + 30)] == ["api"]
    assert world.run(2 * START_SECONDS - 60) == []  # the second start is given twice the time


def test_a_beat_of_the_process_before_is_no_sign_of_life_of_a_new_one():
    """Or a scheduler that is just starting would be ended after the patience for one that has started."""
    world = World(Part("scheduler"), start=40)
    world.run(60)
    world.beats["scheduler"] = Answer(world.now + 0.5)  # written just before its end
    world.restart("scheduler")
    assert world.run(60) == []


def test_a_part_that_hangs_again_at_once_is_restarted_less_and_less_often():
    world = World(Part("api"), start=0)
    world.run(60)
    world.hung = {"api"}
    times = [seconds for _, seconds in world.run(4 * 3_600)]
    pauses = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert pauses[:3] == sorted(pauses[:3]) and pauses[2] > 1.9 * pauses[1]
    assert len(times) < 10
    world.hung = set()
    world.run(STEADY_SECONDS + 10)
    world.hung = {"api"}
    ((_, seconds),) = world.run(20)
    assert seconds <= 17  # it had been well in between


@pytest.mark.parametrize("asleep", [3_600.0, 86_400.0])
def test_a_machine_that_slept_has_no_hanging_parts(asleep):
    """The monotonic clock stands still meanwhile; heartbeats are old by the time of day, which is not asked."""
    world = World(Part("scheduler"))
    world.run(60)
    world.born["scheduler"] -= asleep
    assert world.run(60) == []


def test_a_watch_that_begins_while_a_part_hangs_does_not_take_it_for_a_start():
    world = World(Part("postgres", 20))
    world.hung = {"postgres"}
    ((name, seconds),) = world.run(25)
    assert name == "postgres" and 20 <= seconds <= 23


def test_a_part_without_a_process_is_not_the_watchs_business():
    world = World(Part("mlflow"))
    world.gone = {"mlflow"}
    assert world.run(3_600) == []
    assert world.watch.silent(world.now) == {}
