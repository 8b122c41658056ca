"""The services of the embedded platform: what each runs, with which environment, and when it is healthy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from include.platform import airflow, broker, mlflow, postgres, processes, secrets, watch
from include.platform.http import answers
from include.settings import PROJECT_ROOT, Settings, secret_variables

WATCHDOG = "watchdog"
RELAY = "relay"


@dataclass(frozen=True)
class Service:
    """One supervised program.

    needs, patience: as `include.platform.watch.Part` has it.
    """

    name: str
    command: Callable[[Settings], list[str]]
    ready: Callable[[Settings], bool]
    address: Callable[[Settings], str]
    environment: Callable[[Settings], dict[str, str]] = field(default=lambda settings: {})
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    needs: tuple[str, ...] = ()
    patience: float = 30.0


def _watchdog(settings: Settings) -> list[str]:
    return [sys.executable, "-m", "include.platform.watchdog"]


def _relay(settings: Settings) -> list[str]:
    return [sys.executable, "-m", "include.platform.relay"]


def _streamlit(settings: Settings) -> list[str]:
    streamlit = str(Path(sys.prefix) / "bin" / "streamlit")
    options = {
        "server.address": settings.listen_address,
        "server.port": settings.streamlit_port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return [streamlit, "run", str(PROJECT_ROOT / "streamlit_app" / "app.py"), *arguments]


def _airflow_component(component: str) -> Service:
    # The health answer names a component with underscores; the API server itself is healthy when it answers.
    key = {"api-server": "metadatabase"}.get(component, component.replace("-", "_"))

    def ready(settings: Settings) -> bool:
        state = airflow.Client(settings).health().get(key)
        return state is not None and state.status == "healthy"

    return Service(
        name=f"airflow-{component}",
        command=lambda settings: airflow.command(component),
        environment=airflow.environment,
        ready=ready,
        address=lambda settings: str(settings.airflow_public_url) if component == "api-server" else "",
        stop_seconds=25 if component == "scheduler" else 15,
        needs=("postgres",) if component == "api-server" else ("postgres", "airflow-api-server"),
        # Without the scheduler nothing is started; of the others heartbeats come seldom, and nobody waits for them.
        patience={"api-server": 30.0, "scheduler": 12.0}.get(component, 60.0),
    )


SERVICES: dict[str, Service] = {
    service.name: service
    for service in (
        Service(
            "postgres",
            postgres.command,
            postgres.ready,
            lambda s: f"postgresql://{s.postgres_host}:{s.postgres_port}",
            stop_signal="INT",
            patience=20.0,
        ),
        Service(
            "kafka",
            broker.command,
            broker.ready,
            lambda s: f"kafka://127.0.0.1:{s.kafka_port}",
            patience=20.0,
        ),
        Service(
            "mlflow",
            mlflow.command,
            mlflow.ready,
            lambda s: str(s.mlflow_public_url),
            environment=mlflow.environment,
            needs=("postgres",),
        ),
        *map(_airflow_component, airflow.COMPONENTS),
        Service(
            "streamlit",
            _streamlit,
            lambda s: answers(f"http://127.0.0.1:{s.streamlit_port}/_stcore/health"),
            lambda s: str(s.streamlit_public_url),
            environment=lambda s: {"STREAMLIT_SERVER_COOKIE_SECRET": secrets.ensure(s)["streamlit_cookie"]},
            needs=("postgres",),
        ),
        Service(
            RELAY,
            _relay,
            lambda s: answers(f"http://127.0.0.1:{s.relay_port}/health"),
            lambda s: f"http://127.0.0.1:{s.relay_port}/metrics",
        ),
        Service(WATCHDOG, _watchdog, watch.works, lambda s: ""),
    )
}
WATCHED = [service for service in SERVICES.values() if service.name != WATCHDOG]


def environment(settings: Settings, service: Service | None = None) -> dict[str, str]:
    """The environment of a service's process, with the mark that it and what it starts belong to the platform."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    direct = ",".join(filter(None, (inherited.get("NO_PROXY"), "127.0.0.1", "localhost")))
    ours = settings.as_environment() | processes.mark(settings) | {"NO_PROXY": direct, "no_proxy": direct}
    ours["SPT_NOENV"] = "1"  # Airflow's processes that rename themselves keep what the mark is read from
    complete = inherited | ours | (service.environment(settings) if service else {})
    if service is SERVICES["postgres"]:  # may run as another user, who reads its environment
        complete = {name: value for name, value in complete.items() if name not in secret_variables()}
    return complete


def main() -> None:
    """`python -m include.platform.services NAME` becomes that service: supervisord runs this, so that neither
    its configuration nor any command line holds a secret."""
    from include.settings import load

    settings = load()
    service = SERVICES[sys.argv[1]]
    command = service.command(settings)
    if service.name == "postgres":
        postgres.forget_server_before_reboot(settings)
    if service.name == "airflow-scheduler":
        airflow.end_workers_left_behind(settings)
        airflow.scheduler_group(settings).write_text(str(os.getpgrp()))
    os.chdir("/" if service.name == "postgres" else PROJECT_ROOT)
    os.execvpe(command[0], command, environment(settings, service))


if __name__ == "__main__":
    main()
