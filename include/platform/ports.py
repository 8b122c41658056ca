"""TCP ports: which are free, and who holds one."""

from __future__ import annotations

import socket

import psutil


def free(count: int) -> list[int]:
    """Ports that nothing listens on now, found by binding to port 0."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
    finally:
        for probe in sockets:
            probe.close()


def taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def holder(port: int) -> str:
    """'name (process id N)' of the process that listens on a port, as far as this user may see it."""
    for connection in psutil.net_connections("tcp"):
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
            continue
        if connection.laddr.port == port:
            return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "another user's process"
