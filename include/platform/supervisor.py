"""supervisord keeps the services running: it restarts what dies, and rotates logs."""

from __future__ import annotations

import hashlib
import http.client
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport, UnixStreamHTTPConnection

from include.platform.services import SERVICES, Service, environment
from include.settings import Settings

DAEMON = """\
[supervisord]
nodaemon=false
pidfile={home}/supervisord.pid
logfile={home}/logs/supervisord.log
logfile_maxbytes=5MB
childlogdir={home}/logs
[unix_http_server]
file={socket}
chmod=0700
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
PROGRAM = """\
[program:{name}]
command={python} -m include.platform.services {name}
autostart=false
autorestart=true
startsecs=1
startretries=1000
stopsignal={signal}
stopwaitsecs={seconds}
stopasgroup={group}
killasgroup=true
redirect_stderr=true
stdout_logfile={home}/logs/{name}.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=2
"""


ANSWER_SECONDS = 10.0  # for a call that does not wait for a process
STOP_SECONDS = 120.0  # for one that does


class SupervisorError(RuntimeError):
    """supervisord did not start, or did not do what it was asked."""


def _socket(settings: Settings) -> Path:
    path = settings.home / "supervisor.sock"
    if len(str(path)) < 90:  # a unix socket's path has room for 107 bytes, and supervisord adds a suffix
        return path
    digest = hashlib.sha256(str(settings.home).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"fraudstream-{digest}.sock"


_AWAY = (OSError, http.client.HTTPException, xmlrpc.client.Error)


class _Transport(SupervisorTransport):  # type: ignore[misc]  # its package carries no types
    """Reaches supervisord through its socket, and does not wait for ever for one that hangs."""

    def __init__(self, path: Path, timeout: float):
        super().__init__(None, None, serverurl=f"unix://{path}")
        self._get_connection = lambda: _Connection(path, timeout)


class _Connection(UnixStreamHTTPConnection):  # type: ignore[misc]
    def __init__(self, path: Path, timeout: float):
        super().__init__("localhost")
        self.socketfile, self._seconds = str(path), timeout

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self._seconds)


def _proxy(settings: Settings, timeout: float | None = None) -> Any:
    transport = _Transport(_socket(settings), timeout or ANSWER_SECONDS)
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor


def _configuration(settings: Settings) -> str:
    programs = (_program(settings, service) for service in SERVICES.values())
    return DAEMON.format(home=settings.home, socket=_socket(settings)) + "".join(programs)


def _program(settings: Settings, service: Service) -> str:
    return PROGRAM.format(
        name=service.name,
        python=sys.executable,
        home=settings.home,
        signal=service.stop_signal,
        seconds=service.stop_seconds,
        group=str(service.name.startswith(("mlflow", "airflow-api", "streamlit"))).lower(),
    )


def running(settings: Settings) -> bool:
    """True when supervisord answers."""
    try:
        return bool(_proxy(settings).getState()["statename"] == "RUNNING")
    except _AWAY:
        return False


def ensure(settings: Settings) -> None:
    """Starts supervisord, with no service running, unless it runs; then it learns of services that are new to it."""
    configuration = settings.home / "supervisord.conf"
    configuration.write_text(_configuration(settings))
    if running(settings):
        ((added, _, _),) = _proxy(settings).reloadConfig()
        for name in added:
            _proxy(settings).addProcessGroup(name)
        return
    _socket(settings).unlink(missing_ok=True)
    done = subprocess.run(
        [str(Path(sys.prefix) / "bin" / "supervisord"), "-c", str(configuration)],
        capture_output=True,
        text=True,
        cwd=settings.home,
        env=environment(settings),
        check=False,
    )
    deadline = time.monotonic() + 10
    while not running(settings):
        if done.returncode or time.monotonic() > deadline:
            raise SupervisorError(f"supervisord did not start: {done.stdout}{done.stderr}".strip())
        time.sleep(0.05)


def states(settings: Settings) -> dict[str, str]:
    """supervisord's word for each service (`RUNNING`, `STOPPED`, `BACKOFF`, …); all `STOPPED` without it."""
    try:
        return {info["name"]: info["statename"] for info in _proxy(settings).getAllProcessInfo()}
    except _AWAY:
        return dict.fromkeys(SERVICES, "STOPPED")


def processes(settings: Settings) -> dict[str, int]:
    """The process id of each service that runs and that nobody is stopping; none without supervisord."""
    try:
        infos = _proxy(settings).getAllProcessInfo()
    except _AWAY:
        return {}
    return {info["name"]: info["pid"] for info in infos if info["statename"] == "RUNNING"}


def start(settings: Settings, *names: str, timeout: float = 240) -> None:
    """Starts services unless they run, and waits until all are ready.

    Raises:
        SupervisorError: one was not ready within `timeout` seconds; names its log.
    """
    before = states(settings)
    for name in names:
        if before.get(name) == "BACKOFF":  # or it would wait on for what was wrong until now
            stop(settings, name)
        try:
            _proxy(settings).startProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != Faults.ALREADY_STARTED:
                raise SupervisorError(f"{name} could not be started: {fault.faultString}") from fault
    deadline = time.monotonic() + timeout
    for name in names:
        while name not in processes(settings) or not SERVICES[name].ready(settings):
            if time.monotonic() > deadline:
                log = settings.home / "logs" / f"{name}.log"
                raise SupervisorError(f"{name} was not ready within {timeout:.0f} s: see {log}")
            time.sleep(0.3)


def stop(settings: Settings, name: str) -> None:
    """Stops a service and waits for its end; does nothing when it is stopped."""
    try:
        _proxy(settings, STOP_SECONDS).stopProcess(name, True)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.NOT_RUNNING:
            raise SupervisorError(f"{name} could not be stopped: {fault.faultString}") from fault


def shutdown(settings: Settings) -> None:
    """Ends supervisord itself, and whatever it still runs."""
    if running(settings):
        _proxy(settings).shutdown()
