"""The embedded Airflow: its environment, its commands, and a small client of its REST API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from include.platform import processes, secrets
from include.platform.http import client
from include.settings import PROJECT_ROOT, Settings

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
STREAM_DAGS = ("stream_transactions", "stream_fraud_scores")
PRODUCER_DAG = "produce_transactions"
RETRAIN_DAG = "retrain_isolation_forest"
FIRST_CHAMPION_DAG = "first_champion"
# All are on: without `parity` no new model would become champion, and `replay_dead_letters` runs when it is on only.
DAGS = tuple(sorted(file.stem for file in (PROJECT_ROOT / "dags").glob("*.py")))
STREAM_POOL = "streams"
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
WORKER_TITLE = "airflow worker -- LocalExecutor"


class AirflowError(RuntimeError):
    """Airflow's API refused a request, or did not answer in time."""


def environment(settings: Settings) -> dict[str, str]:
    """What every Airflow process and every task needs."""
    keys = secrets.ensure(settings)
    database = f"airflow@{settings.postgres_host}:{settings.postgres_port}/airflow"
    passfile = f"passfile={settings.postgres_passfile}"
    options = {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "8",
        "CORE__DAGS_FOLDER": PROJECT_ROOT / "dags",
        "CORE__PLUGINS_FOLDER": PROJECT_ROOT / "plugins",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__FERNET_KEY": keys["airflow_fernet"],
        "CORE__EXECUTION_API_SERVER_URL": f"{settings.airflow_url}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",  # it would give a token to anybody
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": secrets.folder(settings) / "airflow-users.json",
        "DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}?{passfile}",
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{database}?{passfile}",
        "API__HOST": settings.listen_address,
        "API__PORT": settings.airflow_port,
        "API__BASE_URL": settings.airflow_public_url,
        "API__WORKERS": "1",
        "API__EXPOSE_CONFIG": "False",
        "API__SECRET_KEY": keys["airflow_api_secret"],
        "API_AUTH__JWT_SECRET": keys["airflow_jwt"],
        # A stream's task lives for months; its token must outlive a laptop's sleep or a stalled API server.
        "EXECUTION_API__JWT_EXPIRATION_TIME": settings.airflow_task_token_seconds,
        # A killed worker is noticed within 30 s instead of 5 minutes.
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": 5,
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 30,
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 5,
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 20,
        "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": 20,
        # A scheduler that hangs is noticed when this stands still.
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 2,
        "DAG_PROCESSOR__PARSING_PROCESSES": 1,
        "LOGGING__LOGGING_LEVEL": "INFO",
        "LOGGING__BASE_LOG_FOLDER": settings.home / "logs" / "airflow",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return {
        "PATH": f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}",  # spark-submit
        "AIRFLOW_HOME": str(settings.home / "airflow"),
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": settings.spark_master}),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        **{f"AIRFLOW__{name}": str(value) for name, value in options.items()},
    }


def command(component: str) -> list[str]:
    # Logs are read from the shared folder; serving them would open a port beyond loopback.
    serve_no_logs = ["--skip-serve-logs"] if component in ("scheduler", "triggerer") else []
    return [str(Path(sys.prefix) / "bin" / "airflow"), component, *serve_no_logs]


def scheduler_group(settings: Settings) -> Path:
    """The file with the process group of the scheduler and its workers."""
    return settings.home / "airflow-scheduler.group"


def end_workers_left_behind(settings: Settings) -> None:
    """Ends the workers of a scheduler that was killed.

    They hold both ends of their own queue, and so would wait for its next task for ever.
    """
    if scheduler_group(settings).exists():
        group = int(scheduler_group(settings).read_text())
        processes.end(processes.of_group(group, WORKER_TITLE), grace=5)


def migrate(settings: Settings, env: dict[str, str]) -> None:
    """Brings Airflow's own database up to date; quick when it is."""
    log = settings.home / "logs" / "airflow-migrate.log"
    with log.open("w") as output:
        done = subprocess.run(
            [str(Path(sys.prefix) / "bin" / "airflow"), "db", "migrate"],
            stdout=output, stderr=subprocess.STDOUT, env=env, check=False,
        )  # fmt: skip
    if done.returncode:
        raise AirflowError(f"airflow db migrate failed: see {log}")


def clean(settings: Settings, before: datetime) -> None:
    """Deletes Airflow's records of runs that began before then, with their tasks, and of events.

    Runs of endless tasks stay: Airflow deletes by when a run began, and would end one that still goes on.

    Raises:
        AirflowError: something could not be deleted.
    """
    env = os.environ | environment(settings)  # a task's own environment has no address of the database
    endless = ",".join((*STREAM_DAGS, PRODUCER_DAG))
    # Filtered by DAG, it fails at a table that belongs to dag_run and is empty here: `deadline` has no dag_id.
    runs = ["dag_run", "--exclude-dag-ids", endless]
    for tables in (runs, ["log,job,import_error,revoked_token", "--error-on-cleanup-failure"]):
        command = [str(Path(sys.prefix) / "bin" / "airflow"), "db", "clean", "--yes", "--skip-archive"]
        command += ["--clean-before-timestamp", before.isoformat(), "--tables", *tables]
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        if done.returncode:
            raise AirflowError(f"airflow db clean failed: {(done.stdout + done.stderr).strip()[-1000:]}")


class Health(NamedTuple):
    """What Airflow says of a component: `healthy` or not, and the time of its last heartbeat as a text."""

    status: str
    heartbeat: str | None


class Client:
    """Airflow's REST API, as the administrator."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._address = settings.airflow_url
        self._token = ""

    def health(self) -> dict[str, Health]:
        """State by component: `metadatabase`, `scheduler`, …; empty when the API does not answer."""
        try:
            answer = client().get(f"{self._address}/api/v2/monitor/health", timeout=4)
        except httpx.HTTPError:
            return {}
        if answer.status_code != 200:
            return {}
        return {
            name: Health(state["status"] or "unknown", state.get(f"latest_{name}_heartbeat"))
            for name, state in answer.json().items()
            if state is not None
        }

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, allow: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """One authenticated call below /api/v2.

        Raises:
            AirflowError: the answer is an error whose status is not in `allow`.
        """
        answer = self._send(method, path, body)
        if answer.status_code == 401 and self._token:  # it expired, or Airflow has another key since
            self._token = ""
            answer = self._send(method, path, body)
        if answer.status_code >= 400 and answer.status_code not in allow:
            raise AirflowError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else {}

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        if not self._token:
            password = secrets.ensure(self._settings)["airflow_admin"]
            login = client().post(
                f"{self._address}/auth/token", json={"username": "admin", "password": password}
            )
            if login.status_code >= 400:
                raise AirflowError(f"Airflow refused the administrator's login: {login.status_code}")
            self._token = login.json()["access_token"]
        headers = {"Authorization": f"Bearer {self._token}"}
        return client().request(method, f"{self._address}/api/v2{path}", json=body, headers=headers)

    def dags(self) -> dict[str, bool]:
        """`{dag_id: is_paused}` of the DAGs that were parsed."""
        return {dag["dag_id"]: dag["is_paused"] for dag in self.request("GET", "/dags?limit=100")["dags"]}

    def import_errors(self) -> list[str]:
        errors = self.request("GET", "/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}" for error in errors]

    def unpause(self, dag_id: str) -> None:
        self.request("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def stop(self, dag_id: str) -> None:
        """Switches a DAG off and ends its tasks that run: an endless one would go on until it ends by itself."""
        self.request("PATCH", f"/dags/{dag_id}", {"is_paused": True})
        for run in self.active_runs(dag_id):
            tasks = f"/dags/{dag_id}/dagRuns/{run}/taskInstances"
            for task in self.request("GET", tasks)["task_instances"]:
                if task["state"] not in ENDED:
                    self.request("PATCH", f"{tasks}/{task['task_id']}", {"new_state": "failed"})

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Makes a pool unless there is one of this name; Airflow logs a traceback when asked to make one again."""
        if self.request("GET", f"/pools/{name}", allow=(404,)).get("name") == name:
            return
        body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        self.request("POST", "/pools", body, allow=(409,))

    def active_runs(self, dag_id: str) -> list[str]:
        runs = self.request("GET", f"/dags/{dag_id}/dagRuns?state=running&state=queued&limit=20")
        return [run["dag_run_id"] for run in runs["dag_runs"]]

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Starts a run by hand and returns its id."""
        run = self.request("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}})
        return str(run["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float) -> str:
        """The run's final state: `success` or `failed`.

        Raises:
            AirflowError: it is still going after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            state = self.run_state(dag_id, run_id)
            if state in ("success", "failed"):
                return state
            time.sleep(0.5)
        raise AirflowError(f"the run {run_id} of {dag_id} did not end within {timeout:.0f} s")
