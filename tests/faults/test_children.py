"""Children are started again when they end, and end for good with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from include.faults.children import Child, Keeper, send
from tests.waiting import PATIENCE, until

# A process with a child in its session and one in a session of its own, which ignores SIGTERM.
FAMILY = """
import os, signal, subprocess, sys, time
print("started", flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
subprocess.Popen([sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"], start_new_session=True)
time.sleep(600)
"""


def child(tmp_path: Path, code: str, **more) -> Child:
    command = [sys.executable, "-c", code]
    return Child("child", lambda: command, lambda: os.environ, tmp_path / "log", **{"pause": 0.0, **more})


@pytest.fixture
def family(tmp_path):
    kept = child(tmp_path, FAMILY)
    with Keeper([kept]) as keeper:
        kept.start()
        until(lambda: len(kept.members()) == 3)
        yield kept, keeper
    assert kept.members() == []


def test_it_is_started_again_when_it_was_killed(family):
    kept, _ = family
    first, at = kept.process, time.time()
    members = kept.members()
    first.kill()
    until(lambda: kept.process is not first)
    send(members, signal.SIGKILL)  # which the dead one left behind
    (end,) = kept.ends
    assert end.status == -signal.SIGKILL and end.at >= at
    assert kept.log.read_text().count("started") >= 1


def test_members_are_found_when_their_parent_is_dead(family):
    kept, keeper = family
    with keeper.lock:
        before = kept.members()
        in_session = [member for member in before if os.getsid(member.pid) == kept.process.pid]
        os.kill(kept.process.pid, signal.SIGKILL)
        kept.process.wait(PATIENCE)
        assert len(in_session) == 2 and [member.pid for member in kept.members()] == [in_session[1].pid]
        send(before, signal.SIGKILL)


def test_a_stop_is_for_good_and_says_when_something_had_to_be_killed(family):
    kept, _ = family
    assert not kept.stop(signal.SIGTERM, grace=1)
    assert kept.members() == []
    kept.look()
    assert kept.process.poll() is not None


def test_a_process_that_got_the_number_of_an_ended_child_is_left_alone(tmp_path):
    kept = child(tmp_path, "print('done')", once=True)
    kept.start()
    kept.process.wait(PATIENCE)
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    try:
        kept.process.pid = stranger.pid
        assert kept.members() == [] and kept.stop(signal.SIGKILL)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_stopped_process_can_be_ended(tmp_path):
    kept = child(tmp_path, "import time; time.sleep(600)")
    kept.start()
    send(kept.members(), signal.SIGSTOP)
    assert kept.stop(signal.SIGTERM, grace=30)


def test_work_that_is_done_is_not_started_again(tmp_path):
    kept = child(tmp_path, "print('done')", once=True)
    with Keeper([kept]):
        kept.start()
        until(lambda: kept.finished)
        time.sleep(0.2)
    assert kept.log.read_text() == "done\n" and kept.ends == []


def test_work_that_failed_is_started_again(tmp_path):
    code = (
        f"import pathlib; p = pathlib.Path('{tmp_path}/once'); done = p.exists(); p.touch(); exit(not done)"
    )
    kept = child(tmp_path, code, once=True)
    with Keeper([kept]):
        kept.start()
        until(lambda: kept.finished)
    assert [end.status for end in kept.ends] == [1]


def test_an_adopted_process_takes_the_place_of_the_first(tmp_path):
    kept = child(tmp_path, "import time; time.sleep(600)")
    with Keeper([kept]) as keeper:
        kept.start()
        first, second = kept.process, kept.spawn()
        with keeper.lock:
            first.kill()
            first.wait(PATIENCE)
            kept.adopt(second)
        time.sleep(0.2)
        assert kept.process is second and second.poll() is None and kept.ends == []
