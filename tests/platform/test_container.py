"""A container's command gets the environment and the files that its secrets allow."""

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg
import pytest
from click.testing import CliRunner

from include.broker.kafka import ensure_topics
from include.cli import main as main_module
from include.cli import platform as platform_commands
from include.platform import container, secrets, up
from include.platform import status as platform_status
from include.settings import PROJECT_ROOT, Settings

AIRFLOW = ("airflow", "airflow_fernet", "airflow_api_secret", "airflow_jwt", "airflow_admin", "spark_secret")


@pytest.fixture
def given(tmp_path) -> Settings:
    """Settings of a container with Airflow's secrets, each with its name's reverse as value."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for name in AIRFLOW:
        (mounted / name).write_text(f"{name[::-1]}\n")
    return Settings(
        _env_file=None,
        home=tmp_path / "home",
        mounted_secrets=mounted,
        listen_address="0.0.0.0",
        airflow_url="http://airflow-api-server:8080",
        spark_master="spark://spark-master:7077",
    )


def test_mounted_secrets_are_written_as_programs_read_them_and_only_for_this_user(given):
    assert secrets.ensure(given)["airflow_jwt"] == "twj_wolfria"
    folder = secrets.folder(given)
    assert given.postgres_passfile.read_text() == "*:*:*:airflow:wolfria\n"
    assert json.loads((folder / "airflow-users.json").read_text()) == {"admin": "nimda_wolfria"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_nothing_is_generated_where_secrets_are_mounted(given):
    assert set(secrets.ensure(given)) == set(AIRFLOW)


def test_services_listen_to_other_containers_and_are_found_by_them(given):
    environment = container.environment(given, "airflow-scheduler")
    assert environment["AIRFLOW__API__HOST"] == "0.0.0.0"
    assert (
        environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://airflow-api-server:8080/execution/"
    )
    # The address that a person's browser uses.
    assert environment["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8080"
    assert json.loads(environment["AIRFLOW_CONN_SPARK_DEFAULT"])["host"] == "spark://spark-master:7077"


def test_the_containers_own_environment_wins(given, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "16")
    assert container.environment(given, "airflow-scheduler")["AIRFLOW__CORE__PARALLELISM"] == "16"


def test_spark_gets_its_shared_secret_in_a_private_file(given):
    folder = secrets.folder(given) / "spark"
    assert container.environment(given, "airflow-scheduler")["SPARK_CONF_DIR"] == str(folder)
    assert "spark.authenticate.secret terces_kraps\n" in (folder / "spark-defaults.conf").read_text()
    assert "spark.authenticate              true" in (folder / "spark-defaults.conf").read_text()
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_worker_and_the_master_find_one_another(given):
    master, worker = (container.command(given, f"spark-{part}") for part in ("master", "worker"))
    assert master[master.index("--host") + 1] == "spark-master"
    assert master[master.index("--port") + 1] == "7077"
    assert "spark://spark-master:7077" in worker


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "include.platform.container", *arguments],
        cwd=PROJECT_ROOT, env=os.environ | settings.as_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_any_other_program_runs_with_airflows_environment(given):
    program = "import os; print(os.environ['AIRFLOW__CORE__FERNET_KEY'], os.getcwd())"
    done = run(given, sys.executable, "-c", program)
    assert done.stdout.split() == ["tenref_wolfria", str(PROJECT_ROOT)], done.stderr


def main(monkeypatch: pytest.MonkeyPatch, settings: Settings, name: str) -> None:
    """The entry point of a container, in this process."""
    monkeypatch.setattr(container, "load", lambda: settings)
    monkeypatch.setattr(sys, "argv", ["container", name])
    container.main()


def test_a_step_that_cannot_be_done_ends_with_one_line_that_says_why(given, monkeypatch):
    monkeypatch.setattr(up, "AIRFLOW_SECONDS", 0.1)
    unreachable = given.model_copy(update={"airflow_url": "http://127.0.0.1:1"})
    with pytest.raises(SystemExit, match=r"^start: not healthy within .* airflow-scheduler, "):
        main(monkeypatch, unreachable, "start")


@pytest.fixture
def starting_airflow() -> Iterator[str]:
    """The address of an Airflow whose API does not answer the first time, and then says it is healthy."""
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200 if len(asked) > 1 else 503)
            self.end_headers()
            parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
            self.wfile.write(json.dumps({part: {"status": "healthy"} for part in parts}).encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_start_waits_until_airflow_is_healthy(given, starting_airflow):
    up.wait_for_airflow(given.model_copy(update={"airflow_url": starting_airflow}))


@pytest.mark.services
def test_a_scheduler_that_starts_again_lets_the_streams_run(given, clean_postgres, monkeypatch, tmp_path):
    """Its container asks them to stop before it stops, also when it is restarted alone."""
    (given.mounted_secrets / "owner").write_text(secrets.ensure(clean_postgres)["owner"])
    database = {name: getattr(clean_postgres, name) for name in ("postgres_port", "postgres_passfile")}
    settings = given.model_copy(update=database)
    executed = []
    monkeypatch.setattr(container.watchdog, "keep", lambda settings, name, *_: executed.append(name))
    monkeypatch.chdir(tmp_path)
    requested = "select count(*) filter (where stop_requested), count(*) from shop.stream_leases"
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as connection:
        main(monkeypatch, settings, "drain")
        assert connection.execute(requested).fetchone() == (3, 3) and executed == []
        with pytest.raises(SystemExit):
            main(monkeypatch, settings, "airflow-scheduler")
        assert connection.execute(requested).fetchone() == (0, 3) and len(executed) == 1


def test_a_scheduler_without_its_database_ends_and_says_so(given, monkeypatch):
    monkeypatch.setattr(container.watchdog, "keep", pytest.fail)
    with pytest.raises(SystemExit, match="^airflow-scheduler: connection"):
        main(monkeypatch, given.model_copy(update={"postgres_port": 1}), "airflow-scheduler")


@pytest.mark.services
def test_the_status_in_a_container_leaves_the_services_to_docker(clean_postgres, given, kafka, monkeypatch):
    settings = clean_postgres.model_copy(update={"mounted_secrets": given.mounted_secrets})
    ensure_topics(settings)
    status = platform_status.status(settings)
    assert status["services"] == {} and platform_status.healthy(status)
    monkeypatch.setattr(platform_commands, "load", lambda: settings)
    result = CliRunner().invoke(main_module.cli, ["status"])
    assert "docker compose ps" in result.output and "STOPPED" not in result.output.upper().split("STREAM")[0]
    away = settings.model_copy(update={"postgres_port": 1})
    assert not platform_status.healthy(platform_status.status(away))
