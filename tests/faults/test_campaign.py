"""A small campaign on the real streams closes its books, and with each classic bug put back it does not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from include.faults import campaign, command, record
from include.faults.campaign import Plan
from include.faults.children import send
from include.faults.kinds import KINDS, Kind
from include.faults.platform_kinds import PLATFORM_KINDS
from include.faults.platform_stack import last_interruption
from include.faults.stack import JOBS, BareStack
from include.settings import PROJECT_ROOT
from include.streams import TRANSACTION_STREAM
from tests.faults.bugs import BUGS
from tests.waiting import PATIENCE, until

BUGS_FOLDER = Path(__file__).parent / "bugs"
ONE_STREAM = partial(BareStack, jobs={TRANSACTION_STREAM: JOBS[TRANSACTION_STREAM]})


def named(*names: str) -> tuple[Kind, ...]:
    return tuple(KINDS[name] for name in names)


# What shows each bug: the faults to inject, and the count that must not stay 0.
SHOWN_BY = {
    "exception swallowed": (Plan(kills=2, pauses=0, cuts=0, kinds=named("workers")), "lost"),
    "plain append": (Plan(kills=1, pauses=0, cuts=0, kinds=named("commits_deleted")), "duplicated"),
    "checkpoint trusted alone": (Plan(kills=1, pauses=0, cuts=0, kinds=named("checkpoint_wiped")), "lost"),
    "batch id ledger": (Plan(kills=1, pauses=0, cuts=0, kinds=named("checkpoint_wiped")), "lost"),
    "uncommitted records read": (
        Plan(kills=1, pauses=0, cuts=0, kinds=named("open_transaction")),
        "unaccounted",
    ),
    "no fence": (Plan(kills=0, pauses=1, cuts=0, kinds=named("stale_driver")), "stale_commits"),
}


@pytest.mark.services
@pytest.mark.timeout(1_200)
def test_a_small_campaign_loses_nothing_and_stores_nothing_twice():
    kills = [
        "driver_jvm",
        "workers",
        "mid_copy",
        "after_commit",
        "kafka_killed",
        "open_transaction",
    ]  # 8 in all
    kinds = named(*kills, "stale_driver", "commit_reply_lost")
    done = campaign.run_round(Plan(10_000, kills=6, pauses=1, cuts=1, kinds=kinds), print)
    assert done.books.closed and done.good, done.books.problems + done.failures
    assert done.books.acknowledged == 10_000 and done.books.without_record > done.books.aborted >= 2_000
    assert sum(fault.family == "kill" for fault in done.faults) == 6
    assert {fault.family for fault in done.faults} == {"kill", "pause", "cut"}
    assert record.total([record.as_json(done)])["recovery"]["all kills"]["measured"] >= 4


def test_every_bug_still_reaches_the_code_that_it_spoils():
    """The campaigns with bugs take minutes and run on demand: a renamed method would make them test nothing."""
    program = "from tests.faults.bugs import BUGS, put_back; [put_back(bug) for bug in BUGS]"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.services
@pytest.mark.campaign
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("bug", BUGS)
def test_the_campaign_catches(bug, monkeypatch):
    plan, count = SHOWN_BY[bug]
    monkeypatch.setattr(BareStack, "recovery_seconds", 60)
    monkeypatch.setattr(campaign, "SETTLE_SECONDS", 60)
    path = f"{BUGS_FOLDER}{os.pathsep}{PROJECT_ROOT}"
    stack = partial(ONE_STREAM, variables={"PYTHONPATH": path, "FRAUDSTREAM_TEST_BUG": bug})
    done = campaign.run_round(replace(plan, events=2_000, stack=stack), print)
    assert not done.good
    assert done.books.wrong[count] > 0, done.books.problems + done.failures


@pytest.mark.services
@pytest.mark.campaign
@pytest.mark.timeout(1_200)
def test_without_a_bug_the_same_faults_are_survived():
    kinds = [kind for plan, _ in SHOWN_BY.values() for kind in plan.kinds]
    plan = Plan(2_000, kills=3, pauses=1, cuts=0, kinds=list(dict.fromkeys(kinds)), stack=ONE_STREAM)
    done = campaign.run_round(plan, print)
    assert done.good, done.books.problems + done.failures


def planned(plan: Plan) -> Counter:
    return Counter(kind.name for kind in plan.faults(random.Random(plan.seed)))


@pytest.mark.services
def test_a_campaign_that_is_ended_leaves_no_process(tmp_path):
    """As `kill` does with one that runs unattended."""
    command = [str(Path(sys.executable).with_name("fraudstream")), "faults", "--events", "1000"]
    with (tmp_path / "log").open("wb") as log:
        campaign = subprocess.Popen(
            command, env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=log, stderr=log
        )
    started: list[psutil.Process] = []
    try:
        until(lambda: len(psutil.Process(campaign.pid).children()) >= 4, 120)  # servers, producer, a stream
        started = psutil.Process(campaign.pid).children(recursive=True)
        campaign.terminate()
        assert campaign.wait(PATIENCE) == 128 + signal.SIGTERM, (tmp_path / "log").read_text()
        until(lambda: not any(process.is_running() for process in started))
    finally:
        campaign.kill()
        send(started, signal.SIGKILL)


def test_a_plan_injects_what_was_asked_for():
    plan = Plan(kills=300, pauses=20, cuts=20, seed=5)
    counted = planned(plan)
    assert (
        sum(KINDS[name].kills * number for name, number in counted.items() if KINDS[name].family == "kill")
        == 300
    )
    assert sum(number for name, number in counted.items() if KINDS[name].family == "pause") == 20
    assert sum(number for name, number in counted.items() if KINDS[name].family == "cut") == 20
    assert counted.keys() == KINDS.keys()


def test_the_default_plan_has_every_kind_of_kill():
    counted = planned(Plan())
    assert counted.keys() >= {name for name, kind in KINDS.items() if kind.family == "kill"}


def test_a_plan_depends_on_its_seed_alone():
    assert planned(Plan(seed=3)) == planned(Plan(seed=3))
    orders = {tuple(kind.name for kind in Plan().faults(random.Random(seed))) for seed in (1, 1, 2)}
    assert len(orders) == 2


@pytest.mark.parametrize("kind", ["mid_copy", "producer", "connections_cut"])
def test_a_plan_of_one_kind_ends(kind):
    counted = planned(Plan(kills=5, pauses=5, cuts=5, kinds=named(kind)))
    assert counted.keys() == {kind}


def test_a_campaign_with_airflow_injects_every_kind_one_after_the_other():
    faults = command.AIRFLOW.faults(random.Random(1))
    assert Counter(kind.name for kind in faults) == Counter(PLATFORM_KINDS.keys())
    assert all(len(step) == 1 for step in campaign.steps(faults, 2))


def test_every_kind_is_documented():
    text = (PROJECT_ROOT / "docs" / "reliability.md").read_text()
    assert [name for name in (*KINDS, *PLATFORM_KINDS) if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("commits", "seconds"),
    [
        ([100.4, 101, 102, 103], 0.4),  # no interruption
        ([112, 113, 114], 12),
        ([100.5, 101, 102, 131, 132], 31),  # a late one
        ([100.5, 120, 121, 150, 151, 155.9], 50),  # two
    ],
)
def test_recovery_ends_with_the_last_interruption(commits, seconds):
    assert last_interruption(100, commits) - 100 == pytest.approx(seconds)


@pytest.mark.services
@pytest.mark.campaign
@pytest.mark.timeout(1_800)
def test_a_small_campaign_with_airflow_loses_nothing_and_comes_back_by_itself():
    kinds = command.chosen("postgres_killed,scheduler_hangs,scheduler_sessions_ended", command.AIRFLOW.kinds)
    done = campaign.run_round(
        replace(command.AIRFLOW, events=4_000, kills=1, pauses=1, cuts=1, kinds=kinds), print
    )
    assert done.good, done.books.problems + done.failures
    assert done.books.acknowledged == 4_000
    assert all(fault.recovered is not None for fault in done.faults)


def test_faults_of_single_streams_are_injected_together_and_others_alone():
    faults = Plan(kills=60, seed=4).faults(random.Random(4))
    injected = list(campaign.steps(faults, 2))
    assert Counter(kind.name for step in injected for kind in step) == Counter(kind.name for kind in faults)
    assert all(
        len(step) == 1 or (len(step) == 2 and not any(kind.alone for kind in step)) for step in injected
    )
    singles = sum(not kind.alone for kind in faults)
    assert sum(len(step) == 2 for step in injected) == singles // 2
    assert all(len(step) == 1 for step in campaign.steps(faults, 1))
