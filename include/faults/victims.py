"""The processes of a running platform that a campaign or a test hurts."""

from __future__ import annotations

import psutil

from include.platform import processes, spark, supervisor
from include.settings import Settings


def main_process(settings: Settings, service: str) -> psutil.Process:
    """The process of a service that supervisord started.

    Raises:
        psutil.NoSuchProcess: the service does not run.
    """
    pid = supervisor.processes(settings).get(service)
    if pid is None:
        raise psutil.NoSuchProcess(0, service, f"{service} does not run")
    return psutil.Process(pid)


def members(settings: Settings, service: str) -> list[psutil.Process]:
    """The process of a service and all below it."""
    main = main_process(settings, service)
    return [main, *main.children(recursive=True)]


def drivers(settings: Settings, job: str) -> list[psutil.Process]:
    """The Java and Python processes of a Spark job."""
    script = str(spark.job_file(job))
    return [process for process in processes.ours(settings) if script in command(process)]


def above(driver: psutil.Process, scheduler: psutil.Process) -> list[psutil.Process]:
    """What stands between a Spark driver and the scheduler: the task's process, ..., the worker that runs it."""
    line = driver.parents()
    return line[: line.index(scheduler)]


def command(process: psutil.Process) -> list[str]:
    """The command line; empty when the process has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def runs(process: psutil.Process) -> bool:
    """True unless the process has ended, even if nobody has collected its status."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
