"""The faults that a campaign injects into the platform with Airflow, one after the other."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from functools import partial

import psutil

from include.faults import victims
from include.faults.children import send
from include.faults.kinds import Family, Injected, Kind
from include.faults.platform_stack import PlatformStack, PlatformStream
from include.faults.stack import CampaignFailed

Inject = Callable[[PlatformStack, random.Random, PlatformStream], list[Injected]]

SCHEDULER, API = "airflow-scheduler", "airflow-api-server"
PAUSE = (5, 12)  # seconds, at least and at most: shorter than what the watchdog takes for a hang
SHORT = (3, 8)
CLIENTS = """
select pg_terminate_backend(pid) from pg_stat_activity
where backend_type = 'client backend' and pid <> pg_backend_pid()"""


def _all(stack: PlatformStack) -> tuple[str, ...]:
    return tuple(stack.streams)


def _kill(service: str, stack: PlatformStack, rng: random.Random, stream: PlatformStream) -> list[Injected]:
    """Kills the main process alone; what it started must see to itself, or be seen to."""
    at = time.time()
    victims.main_process(stack.settings, service).kill()
    return [Injected(f"{_short(service)}_killed", "kill", at, _all(stack))]


def _backend(stack: PlatformStack, rng: random.Random, stream: PlatformStream) -> list[Injected]:
    """PostgreSQL restarts all its processes when one was killed."""
    rows = stack.query("select pid from pg_stat_activity where usename in ('airflow', 'stream_writer')")
    at = time.time()
    psutil.Process(rng.choice(rows)[0]).kill()
    return [Injected("backend_killed", "kill", at, _all(stack))]


def _driver(stack: PlatformStack, stream: PlatformStream) -> psutil.Process:
    """The JVM of a stream."""
    for process in victims.drivers(stack.settings, stream.name):
        if "java" in process.name():
            return process
    raise CampaignFailed(f"{stream.name} does not run: see {stream.log}")


def _above(stack: PlatformStack, stream: PlatformStream) -> list[psutil.Process]:
    """The processes of a stream's task, from its own to the worker's."""
    scheduler = victims.main_process(stack.settings, "airflow-scheduler")
    return victims.above(_driver(stack, stream), scheduler)


def _kill_above(
    name: str, level: int, stack: PlatformStack, rng: random.Random, stream: PlatformStream
) -> list[Injected]:
    victim = _above(stack, stream)[level]
    at = time.time()
    victim.kill()
    return [Injected(name, "kill", at, (stream.name,))]


def _kill_driver(stack: PlatformStack, rng: random.Random, stream: PlatformStream) -> list[Injected]:
    victim = rng.choice(victims.drivers(stack.settings, stream.name))
    at = time.time()
    victim.kill()
    return [Injected("driver_killed", "kill", at, (stream.name,))]


def _members(stack: PlatformStack, service: str) -> list[psutil.Process]:
    """All processes of a service; of the scheduler without the workers, whose tasks go on without it."""
    if service == SCHEDULER:
        return [victims.main_process(stack.settings, service)]
    return victims.members(stack.settings, service)


def _pause(
    service: str, seconds: tuple[int, int], stack: PlatformStack, rng: random.Random, stream: PlatformStream
) -> list[Injected]:
    at = _stop_and_go(_members(stack, service), rng.uniform(*seconds))
    return [Injected(f"{_short(service)}_paused", "pause", at, _all(stack))]


def _pause_worker(stack: PlatformStack, rng: random.Random, stream: PlatformStream) -> list[Injected]:
    at = _stop_and_go(_above(stack, stream), rng.uniform(*PAUSE))
    return [Injected("worker_paused", "pause", at, (stream.name,))]


def _stop_and_go(processes: list[psutil.Process], seconds: float) -> float:
    """Stops processes for some seconds; when they went on, in seconds since 1970."""
    send(processes, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        send(processes, signal.SIGCONT)
    return time.time()


def _hang(service: str, stack: PlatformStack, rng: random.Random, stream: PlatformStream) -> list[Injected]:
    """Stops a service for good: the watchdog must see to it."""
    at = time.time()
    send(_members(stack, service), signal.SIGSTOP)
    return [Injected(f"{_short(service)}_hangs", "pause", at, _all(stack))]


def _hang_driver(stack: PlatformStack, rng: random.Random, stream: PlatformStream) -> list[Injected]:
    """Stops a stream's driver for good, with the lease in its hands."""
    at = time.time()
    send(
        [process for process in victims.drivers(stack.settings, stream.name) if "python" in process.name()],
        signal.SIGSTOP,
    )
    return [Injected("driver_hangs", "pause", at, (stream.name,))]


def _hang_jvm(stack: PlatformStack, rng: random.Random, stream: PlatformStream) -> list[Injected]:
    """Stops a stream's JVM for good, while its driver lives."""
    at = time.time()
    send([_driver(stack, stream)], signal.SIGSTOP)
    return [Injected("jvm_hangs", "pause", at, (stream.name,))]


def _silence(stack: PlatformStack, rng: random.Random, stream: PlatformStream) -> list[Injected]:
    stack.proxy.silence(True)
    try:
        time.sleep(rng.uniform(*PAUSE))
    finally:
        stack.proxy.silence(False)
    return [Injected("kafka_silent", "pause", time.time(), _all(stack))]


def _cut_sessions(stack: PlatformStack, rng: random.Random, stream: PlatformStream) -> list[Injected]:
    at = time.time()
    stack.query(CLIENTS)
    return [Injected("sessions_ended", "cut", at, _all(stack))]


def _cut_sessions_of(
    service: str, stack: PlatformStack, rng: random.Random, stream: PlatformStream
) -> list[Injected]:
    """Ends the sessions that a service has with PostgreSQL."""
    connections = victims.main_process(stack.settings, service).net_connections("tcp")
    local = [connection.laddr.port for connection in connections]
    at = time.time()
    stack.query(f"{CLIENTS} and client_port = any(%s)", (local,))
    return [Injected(f"{_short(service)}_sessions_ended", "cut", at, _all(stack))]


def _cut_broker(stack: PlatformStack, rng: random.Random, stream: PlatformStream) -> list[Injected]:
    at = time.time()
    stack.proxy.cut()
    return [Injected("kafka_connections_cut", "cut", at, _all(stack))]


def _short(service: str) -> str:
    return service.removeprefix("airflow-").replace("-", "_")


def _kind(name: str, family: Family, says: str, inject: Inject) -> Kind[PlatformStack, PlatformStream]:
    return Kind(name, family, 1, says, inject, alone=True)


PLATFORM_KINDS: dict[str, Kind[PlatformStack, PlatformStream]] = {
    kind.name: kind
    for kind in (
        _kind("postgres_killed", "kill", "PostgreSQL's main process killed", partial(_kill, "postgres")),
        _kind("backend_killed", "kill", "one process of PostgreSQL killed", _backend),
        _kind("kafka_killed", "kill", "the broker killed", partial(_kill, "kafka")),
        _kind("scheduler_killed", "kill", "Airflow's scheduler killed", partial(_kill, SCHEDULER)),
        _kind("api_server_killed", "kill", "Airflow's API server killed", partial(_kill, API)),
        _kind("task_killed", "kill", "the process of a stream's task killed", partial(_kill_above, "task_killed", 0)),
        _kind("worker_killed", "kill", "the worker that runs it killed", partial(_kill_above, "worker_killed", -1)),
        _kind("driver_killed", "kill", "a stream's JVM or Python driver killed", _kill_driver),
        _kind("postgres_paused", "pause", "PostgreSQL stopped for 5 to 12 s", partial(_pause, "postgres", PAUSE)),
        _kind("kafka_paused", "pause", "the broker stopped for 5 to 12 s", partial(_pause, "kafka", PAUSE)),
        _kind("kafka_silent", "pause", "nothing passes to and from the broker", _silence),
        _kind("scheduler_paused", "pause", "the scheduler stopped for 3 to 8 s", partial(_pause, SCHEDULER, SHORT)),
        _kind("api_server_paused", "pause", "the API server stopped for 5 to 12 s", partial(_pause, API, PAUSE)),
        _kind("worker_paused", "pause", "worker and task of a stream stopped for 5 to 12 s", _pause_worker),
        _kind("postgres_hangs", "pause", "PostgreSQL stopped until it is restarted", partial(_hang, "postgres")),
        _kind("kafka_hangs", "pause", "the broker stopped until it is restarted", partial(_hang, "kafka")),
        _kind("scheduler_hangs", "pause", "the scheduler stopped until it is restarted", partial(_hang, SCHEDULER)),
        _kind("api_server_hangs", "pause", "the API server stopped until it is restarted", partial(_hang, API)),
        _kind("driver_hangs", "pause", "a stream's driver stopped until it is restarted", _hang_driver),
        _kind("jvm_hangs", "pause", "a stream's JVM stopped until it is restarted", _hang_jvm),
        _kind("sessions_ended", "cut", "PostgreSQL ends all its sessions", _cut_sessions),
        _kind("scheduler_sessions_ended", "cut", "... those of the scheduler", partial(_cut_sessions_of, SCHEDULER)),
        _kind("api_server_sessions_ended", "cut", "... those of the API server", partial(_cut_sessions_of, API)),
        _kind("kafka_connections_cut", "cut", "the broker's connections reset", _cut_broker),
    )
}  # fmt: skip
