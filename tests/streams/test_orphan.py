"""A job ends itself when any of its ancestors is killed; real processes."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from include.streams.orphan import ORPHANED, ancestors, died
from tests.waiting import PATIENCE

JOB = """
import sys, threading, time
from include.streams.orphan import exit_when_orphaned
ended = threading.Event()
exit_when_orphaned({on_exit}, grace={grace}, interval=0.05)
print("watching", flush=True)
ended.wait(60)
print("flushed", flush=True)
"""
# top -> middle -> job; each only waits for its child, and tells nobody when it dies
PASS_ON = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


def start(on_exit: str, grace: float) -> tuple[subprocess.Popen, psutil.Process, psutil.Process]:
    job = JOB.format(on_exit=on_exit, grace=grace)
    top = subprocess.Popen(
        [sys.executable, "-c", PASS_ON, PASS_ON, job],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert top.stdout.readline() == "watching\n"
    middle = psutil.Process(top.pid).children()[0]
    return top, middle, middle.children()[0]


@pytest.fixture
def family(request):
    started = []

    def begin(on_exit: str, grace: float):
        started.extend(start(on_exit, grace))
        return started

    yield begin
    for process in started:
        try:
            process.kill()
            process.wait(PATIENCE)
        except psutil.NoSuchProcess:
            pass
    started[0].stdout.close()
    started[0].stderr.close()


@pytest.mark.parametrize("victim", [0, 1], ids=["grandparent", "parent"])
def test_a_job_ends_in_order_when_an_ancestor_is_killed(family, victim):
    top, middle, job = family("ended.set", grace=30)
    os.kill((top, middle)[victim].pid, signal.SIGKILL)
    assert top.stdout.readline() == "flushed\n"
    psutil.wait_procs([job], timeout=10)
    assert died(job)


def test_a_job_that_does_not_end_is_ended(family):
    top, _, job = family("lambda: time.sleep(60)", grace=0.2)
    os.kill(top.pid, signal.SIGKILL)
    psutil.wait_procs([job], timeout=10)
    assert died(job)
    assert "ended now" in top.stderr.read()


def test_a_failing_request_to_end_still_ends_the_job(family):
    top, _, job = family("lambda: 1 / 0", grace=0.2)
    os.kill(top.pid, signal.SIGKILL)
    psutil.wait_procs([job], timeout=10)
    assert died(job)


def test_a_job_with_living_ancestors_goes_on(family):
    _, _, job = family("ended.set", grace=0.1)
    time.sleep(0.5)
    assert not died(job)


def test_the_exit_status_tells_an_orphan():
    code = (
        "import os, time, subprocess, sys\n"
        "from include.streams import orphan\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "watched = [orphan.psutil.Process(child.pid)]\n"
        "child.kill()\n"
        "orphan._watch(watched, lambda: None, 0.1, 0.05)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == ORPHANED


def test_ancestors_begin_with_the_parent_and_end_before_process_1():
    processes = ancestors()
    assert processes[0].pid == os.getppid()
    assert all(process.pid > 1 for process in processes)
