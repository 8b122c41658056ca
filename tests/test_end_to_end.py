"""The whole platform in a temporary folder on free ports: started, used, hurt and stopped as its users do it."""

from __future__ import annotations

import contextlib
import json
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import jwt
import psutil
import psycopg
import pytest
from confluent_kafka import Producer

from include.bench import outage
from include.broker import kafka
from include.faults import victims
from include.operations import jobs
from include.platform import airflow, processes, secrets
from include.platform.temporary import environment, temporary_settings
from include.registry import aliases
from include.sql import statement
from include.streams import STREAMS
from tests import airflow_faults, canaries, cockpit
from tests.builders import event_bytes

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1500)]

COMMAND = str(Path(sys.prefix) / "bin" / "fraudstream")
SERVICES = {
    "postgres", "kafka", "mlflow", "streamlit", "relay", "watchdog",
    "airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer",
}  # fmt: skip


TOKEN_SECONDS = 100  # no stream lives longer than its first token, unless Airflow renews it


class Platform:
    """A platform of the tests' own, driven through the console script."""

    def __init__(self, home: Path):
        self.settings = temporary_settings(
            home,
            history_days=10,
            history_events=20_000,
            rate_per_second=5,
            airflow_task_token_seconds=TOKEN_SECONDS,
        )
        self.environment = environment(self.settings)

    def run(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess:
        return subprocess.run(
            [COMMAND, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def status(self) -> dict:
        return json.loads(self.run("status", "--json", timeout=60).stdout)

    def query(self, statement: str, *values: object) -> list[tuple]:
        with psycopg.connect(self.settings.conninfo("owner")) as connection:
            return connection.execute(statement, values or None).fetchall()

    def drivers(self, job: str) -> list[psutil.Process]:
        return victims.drivers(self.settings, job)

    def wait(self, what: str, condition: Callable[[], bool], timeout: float = 180) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(
                    f"{what} did not happen within {timeout:.0f} s; status: {self.run('status').stdout}"
                )
            time.sleep(1)


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    platform = Platform(tmp_path_factory.mktemp("end-to-end"))
    try:
        started = platform.run("up", timeout=900)
        assert started.returncode == 0, started.stdout + started.stderr
        platform.started = started.stdout
        yield platform
    finally:
        platform.run("down", timeout=180)
        processes.end(processes.ours(platform.settings), grace=5)


PERSONAL = {
    "e-mail": "canary.e-mail@example.com",
    "first name": "Canaryfirst",
    "last name": "Canarylast",
    "raw value": "canary-raw-value",
}


@pytest.fixture(scope="module")
def canary(platform):
    """Passwords, keys, and a customer whose events are stored, scored, trained on, and refused in several ways."""
    names = {
        "first_name": PERSONAL["first name"],
        "last_name": PERSONAL["last name"],
        "email": PERSONAL["e-mail"],
    }
    names["full_name"] = " ".join([names["first_name"], names["last_name"]])
    known = {"transaction_id": "canary", "user_id": "canary-user", "timestamp": datetime.now(UTC), **names}
    raw = PERSONAL["raw value"]
    values = [
        event_bytes(**known, amount=9_999_999.0),
        event_bytes(**known, amount=1.0),  # another event under the same id
        event_bytes(**known | {"transaction_id": "other"}, amount=raw),
        event_bytes(**known | {"transaction_id": raw * 100}),
        event_bytes(**known | {"timestamp": raw}),
        event_bytes(**known)[:-20],
        raw.encode(),
    ]
    producer = Producer(kafka.client_config(platform.settings))
    for value in values:
        producer.produce(platform.settings.transactions_topic, value, "canary-user", partition=0)
    assert producer.flush(30) == 0
    letters = f"select count(*) from shop.dead_letters where strpos(encode(value, 'escape'), '{raw}') > 0"
    letters += f" or strpos(encode(value, 'escape'), '{PERSONAL['e-mail']}') > 0"
    platform.wait("the canary's dead letters", lambda: platform.query(letters) == [(len(values) - 1,)])
    score = "select count(*) from shop.fraud_scores where transaction_id = 'canary'"
    platform.wait("the canary's score", lambda: platform.query(score)[0][0] >= 1)
    return secrets.ensure(platform.settings) | PERSONAL


def test_up_ends_with_addresses_logins_and_how_to_stop(platform):
    for port in (
        platform.settings.airflow_port,
        platform.settings.streamlit_port,
        platform.settings.mlflow_port,
    ):
        assert f"http://127.0.0.1:{port}" in platform.started
    assert "airflow-users.json" in platform.started
    assert "make down" in platform.started


def test_every_service_is_healthy_and_counts_grow(platform):
    platform.wait("health of every service and stream", lambda: _all_well(platform.status()))
    before = platform.status()
    assert before["services"].keys() == SERVICES
    assert before["counts"]["transactions"] > 20_000
    assert before["counts"]["alerts"] > 0
    measured_by = "select metrics ->> 'measured_by' from shop.models where version = %s"
    assert platform.query(measured_by, before["champion"]["version"]) != [(None,)]  # it was fitted again
    assert before["first_scored_seconds"] > 0
    platform.wait(
        "a growing number of scores",
        lambda: platform.status()["counts"]["scored"] > before["counts"]["scored"],
        60,
    )


def _all_well(status: dict) -> bool:
    return {service["state"] for service in status["services"].values()} == {"healthy"} and {
        stream["state"] for stream in status["streams"].values()
    } == {"running"}


def test_up_again_changes_nothing_that_runs(platform):
    before = {driver.pid for driver in platform.drivers("fraud_stream")}
    assert platform.run("up", timeout=300).returncode == 0
    assert {driver.pid for driver in platform.drivers("fraud_stream")} == before


def test_retraining_makes_a_version_that_the_stream_uses(platform, canary):
    client = airflow.Client(platform.settings)
    newest = "select max(version) from shop.models"
    ((before,),) = platform.query(newest)
    run = client.trigger(airflow.RETRAIN_DAG, {"trees": 60})
    assert client.wait_for_run(airflow.RETRAIN_DAG, run, timeout=600) == "success"
    ((version,),) = platform.query(newest)
    assert (
        version >= before + 2
    )  # measured, and fitted again; near midnight the daily run may come in between
    checked = client.trigger("parity")
    assert client.wait_for_run("parity", checked, timeout=120) == "success"
    aliases.set_champion(platform.settings, version)  # whatever the judgement was
    platform.wait(f"scores by version {version}", lambda: platform.status()["champion"]["version"] == version)
    platform.wait(
        f"a stored score by version {version}",
        lambda: (
            platform.query("select exists (select from shop.fraud_scores where model_version = %s)", version)
            == [(True,)]
        ),
    )


def test_a_stream_outlives_the_token_of_its_task(platform, watch):
    def ages() -> list[float]:
        return [time.time() - driver.create_time() for job in STREAMS for driver in platform.drivers(job)]

    platform.wait("drivers older than their tokens", lambda: min(ages()) > TOKEN_SECONDS + 40)
    watch.back("tokens renewed", kept=STREAMS)


@pytest.mark.parametrize("job", ["transaction_stream", "fraud_stream"])
def test_a_killed_driver_comes_back_and_loses_nothing(platform, job):
    before = platform.drivers(job)
    assert before
    before[0].kill()
    _recovers(platform, lambda: set(platform.drivers(job)) - set(before))
    folder = platform.settings.home / "tmp" / job
    left = [path.name for path in folder.glob("blockmgr-*")]
    assert len(left) == 1  # the killed driver's are gone


def test_housekeeping_runs_beside_the_streams(platform):
    client = airflow.Client(platform.settings)
    assert not client.dags()["housekeeping"]  # it is switched on
    run = client.trigger("housekeeping")
    assert client.wait_for_run("housekeeping", run, timeout=300) == "success"
    for table in ("transactions", "fraud_scores"):
        assert platform.query(f"select count(*) from shop.{table}_default") == [(0,)]
        assert platform.query(f"select count(*) > 1000 from shop.{table}") == [(True,)]


def test_a_killed_broker_comes_back_and_loses_nothing(platform):
    broker = victims.main_process(platform.settings, "kafka")
    broker.kill()
    _recovers(platform, lambda: not broker.is_running())


def _recovers(platform: Platform, restarted: Callable[[], object]) -> None:
    """Waits until everything that the broker acknowledged up to now is accounted for; then closes the books."""
    platform.wait("a restart", lambda: bool(restarted()))
    platform.wait("a broker that answers", lambda: platform.status()["problems"] == [])
    ends = kafka.end_offsets(platform.settings, platform.settings.transactions_topic)
    platform.wait("the books of both streams", lambda: _ledger(platform, ends), timeout=240)
    topic = platform.settings.transactions_topic
    counted = f"""
        select (select sum(stored) from shop.stream_offsets
                where stream = 'transaction_stream' and topic = '{topic}'),
               (select count(*) from shop.transactions),
               (select count(distinct transaction_id) from shop.transactions)
    """
    ((ledger, rows, ids),) = platform.query(counted)
    assert ledger == rows == ids
    ((rows, places),) = platform.query(
        'select count(*), count(distinct (topic, partition, "offset")) from shop.fraud_scores'
    )
    assert rows == places


def _ledger(platform: Platform, ends: dict[int, int]) -> bool:
    """True when both streams have accounted for all offsets below `ends`."""
    rows = platform.query(
        "select stream, partition, next_offset from shop.stream_offsets"
        f" where topic = '{platform.settings.transactions_topic}'"
    )
    done = {(stream, partition): next_offset for stream, partition, next_offset in rows}
    return all(
        done.get((stream, partition), 0) >= end
        for stream in ("transaction_stream", "fraud_stream")
        for partition, end in ends.items()
    )


@pytest.fixture(scope="module")
def journal(platform):
    """Every change of the ledger is noted: a driver that wrote after its successor is seen."""
    with psycopg.connect(platform.settings.conninfo("owner")) as connection:
        connection.execute(statement("faults/journal"))


@pytest.fixture
def watch(platform, journal):
    """Both streams run; they are watched from now on, and in the end their books are closed."""
    platform.wait("both streams", lambda: all(map(platform.drivers, STREAMS)))
    yield airflow_faults.Watch(platform.settings, platform.query, platform.drivers)
    _recovers(platform, lambda: True)


def test_a_killed_scheduler_comes_back_and_leaves_no_worker_behind(platform, watch):
    scheduler = victims.main_process(platform.settings, "airflow-scheduler")
    workers = scheduler.children(recursive=True)
    scheduler.kill()
    watch.back("scheduler killed", restarted=STREAMS)
    platform.wait("the end of the old workers", lambda: not any(map(victims.runs, workers)), 60)


def test_a_killed_database_comes_back_and_so_do_both_streams_without_a_person(platform, watch):
    """Airflow's scheduler hangs when its database crashes; the watchdog sees to it."""
    victims.main_process(platform.settings, "postgres").kill()
    watch.back("PostgreSQL killed", restarted=STREAMS)
    platform.wait("health of every service", lambda: _all_well(platform.status()))


def test_up_heals_what_a_crash_left(platform, journal):
    """Nobody supervises any more, the scheduler hangs, the broker is gone, everything else runs on."""
    daemon = psutil.Process(int((platform.settings.home / "supervisord.pid").read_text()))
    victims.main_process(platform.settings, "airflow-scheduler").suspend()
    broker = victims.main_process(platform.settings, "kafka")
    left = victims.members(platform.settings, "airflow-api-server")
    for process in (daemon, broker):
        process.kill()
    assert platform.run("status").returncode == 1
    done = platform.run("up", timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(map(victims.runs, left))
    platform.wait("health of every service and stream", lambda: _all_well(platform.status()))
    _recovers(platform, lambda: True)


@pytest.mark.parametrize("component", ["dag-processor", "triggerer"])
def test_streams_do_not_notice_that_another_part_of_airflow_is_killed(platform, watch, component):
    victims.main_process(platform.settings, f"airflow-{component}").kill()
    platform.wait("health of every service", lambda: _all_well(platform.status()))
    watch.back(f"{component} killed and back", kept=STREAMS)


def test_streams_outlive_the_api_server_or_come_back_with_it(platform, watch):
    victims.main_process(platform.settings, "airflow-api-server").kill()
    watch.back("api-server killed")
    platform.wait("health of every service", lambda: _all_well(platform.status()))
    watch.steady()
    watch.back("api-server killed and back")


@pytest.mark.parametrize("level", [0, -1], ids=["task", "worker"])
def test_a_driver_whose_task_or_worker_was_killed_makes_room_for_its_successor(platform, watch, level):
    scheduler = victims.main_process(platform.settings, "airflow-scheduler")
    driver = next(process for process in platform.drivers("transaction_stream") if "java" in process.name())
    victims.above(driver, scheduler)[level].kill()
    watch.back(f"{'worker' if level else 'task'} killed", restarted=["transaction_stream"])


def test_a_cleared_task_starts_again_without_a_second_driver(platform, watch):
    client, dag_id = airflow.Client(platform.settings), "stream_fraud_scores"
    (run,) = client.active_runs(dag_id)
    wanted = {"dry_run": False, "dag_run_id": run, "task_ids": ["fraud_stream"], "only_failed": False}
    client.request("POST", f"/dags/{dag_id}/clearTaskInstances", wanted)
    watch.back("task cleared", restarted=["fraud_stream"])


def test_tasks_whose_token_is_refused_end_and_come_back_with_a_new_one(platform, watch):
    airflow_faults.refuse_tokens(platform.settings)
    platform.wait(
        "the end of tasks without a token",
        lambda: not any(map(victims.runs, sum(watch.victims.values(), []))),
    )
    victims.main_process(platform.settings, "airflow-scheduler").kill()
    watch.back("token refused, then the scheduler restarted", restarted=STREAMS)


def test_stopping_from_airflow_ends_the_job_and_its_children(platform):
    client, dag_id = airflow.Client(platform.settings), "stream_fraud_scores"
    drivers = platform.drivers("fraud_stream")
    drivers += [child for driver in drivers for child in driver.children(recursive=True)]
    client.stop(dag_id)
    platform.wait("the end of the job", lambda: not any(map(victims.runs, drivers)), 90)
    assert platform.drivers("fraud_stream") == []
    client.unpause(dag_id)
    platform.wait("the stream, switched on again", lambda: _all_well(platform.status()))


def test_an_operator_stops_and_starts_a_stream_and_changes_the_rate_in_the_browser(platform, tmp_path):
    """All by the page Fraud platform; the screenshots lie in pytest's temporary folder (--basetemp)."""
    settings, stream = platform.settings, "transaction_stream"
    with cockpit.opened(settings, tmp_path) as page:
        page.see("Streams", "running")
        page.press("Stop a stream")
        platform.wait(
            "stopped", lambda: jobs.state(settings, stream).held and jobs.state(settings, stream).ended
        )
        page.see("Streams", "stopped by an operator")
        page.press("Start a stream")
        platform.wait("started", lambda: jobs.state(settings, stream).runs)
        page.press("Change the producer", rate=9)
        client = airflow.Client(settings)

        def rates() -> list:
            runs = client.request("GET", f"/dags/{airflow.PRODUCER_DAG}/dagRuns?state=running")["dag_runs"]
            return [run["conf"].get("rate") for run in runs]

        platform.wait("the new rate", lambda: rates() == [9] and jobs.state(settings, jobs.PRODUCER).runs)
        page.see("Streams", "running")
        page.follow("Runbook", "stream-silent")


def test_after_an_outage_both_streams_catch_up(platform):
    rate, clearings = outage.measure(platform.settings, minutes=0.2)
    assert rate > 1
    assert {clearing.stream for clearing in clearings} == set(STREAMS)
    assert all(
        clearing.events >= clearing.backlog - outage.CAUGHT_UP_SECONDS * rate for clearing in clearings
    )
    _recovers(platform, lambda: True)


def test_no_secret_and_no_customer_is_in_a_log_an_artifact_or_a_command_line(platform, canary):
    home = platform.settings.home
    data = [home / "secrets", home / "postgres", home / "kafka"]
    assert canaries.in_files(canary, home / "secrets")  # the search finds them where they are
    assert canaries.in_files(canary, home, data) == []
    assert canaries.in_processes(canary) == []


def test_no_secret_and_no_customer_is_in_a_database_that_is_not_theirs(platform, canary):
    parts = "select inhrelid::regclass::text from pg_inherits where inhparent = 'shop.transactions'::regclass"
    theirs = ["shop.transactions", "shop.dead_letters", *(part for (part,) in platform.query(parts))]
    shop = platform.settings.postgres_database
    assert canaries.in_database(canary, platform.settings, shop)
    assert canaries.in_database(canary, platform.settings, shop, theirs) == []
    for other in ("airflow", "mlflow", "postgres"):
        assert canaries.in_database(canary, platform.settings, other) == []


def test_no_secret_and_no_customer_is_in_what_airflow_answers(platform, canary):
    client = airflow.Client(platform.settings)
    runs = "/dags/~/dagRuns"
    asked = [
        "/dags",
        runs,
        f"{runs}/~/taskInstances",
        f"{runs}/~/taskInstances/~/xcomEntries",
        "/connections",
    ]
    asked += ["/variables", "/plugins", "/importErrors", "/eventLogs", "/config", "/jobs"]
    asked += [f"/dagSources/{dag_id}" for dag_id in client.dags()]
    answers = {path: json.dumps(client.request("GET", f"{path}?limit=100", allow=(403,))) for path in asked}
    assert "spark_job" in answers["/dagSources/stream_transactions"] and "fraud_stream" in answers[asked[2]]
    assert {path: canaries.named(canary, text) for path, text in answers.items()} == dict.fromkeys(asked, [])
    assert "sql_alchemy_conn" not in answers["/config"]


def test_without_its_password_airflow_lets_nobody_in(platform):
    address, right = platform.settings.airflow_url, secrets.ensure(platform.settings)["airflow_admin"]
    log_in = [{"username": "admin", "password": given} for given in ("", "admin", right[:-1])]
    log_in += [{"username": "nobody", "password": right}]
    answers = [httpx.post(f"{address}/auth/token", json=body, trust_env=False) for body in log_in]
    answers += [httpx.get(f"{address}/auth/{path}", trust_env=False) for path in ("token", "token/login")]
    assert {answer.status_code for answer in answers} <= {400, 401, 403, 422}
    assert not any("access_token" in answer.text or answer.cookies for answer in answers)
    forged = _token("not the key of this platform" * 3), _token("", algorithm="none")
    for token in (None, "x.y.z", *forged):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        for method, path in (
            ("GET", "/api/v2/dags"),
            ("GET", "/api/v2/connections"),
            ("PATCH", "/api/v2/dags/stream_transactions"),
            ("GET", "/ui/config"),
            ("GET", "/execution/connections/spark_default"),
            ("GET", "/execution/variables/any"),
        ):
            body = {"is_paused": True} if method == "PATCH" else None
            answer = httpx.request(method, f"{address}{path}", headers=headers, json=body, trust_env=False)
            assert answer.status_code in (401, 403), (path, token)


def _token(key: str, algorithm: str = "HS512") -> str:
    soon = int(time.time()) + 600
    return jwt.encode(
        {"sub": "admin", "role": "ADMIN", "exp": soon, "iat": soon - 700}, key, algorithm=algorithm
    )


def test_everything_listens_on_loopback_only_and_sparks_pages_are_off(platform):
    pids = {process.pid for process in processes.ours(platform.settings)}
    listening = {
        (connection.laddr.port, connection.laddr.ip.removeprefix("::ffff:")): connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.pid in pids
    }
    assert {ip for _, ip in listening} <= {"127.0.0.1", "::1"}
    ports_of_ours = {
        value for name, value in platform.settings if name.endswith("_port") and name != "alarm_smtp_port"
    }
    assert ports_of_ours <= {port for port, _ in listening}
    drivers = {
        driver.pid for job in ("transaction_stream", "fraud_stream") for driver in platform.drivers(job)
    }
    for (port, _), pid in listening.items():
        if pid in drivers:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.get(f"http://127.0.0.1:{port}/environment/", trust_env=False, timeout=2)
                assert answer.status_code != 200, f"Spark's pages are open on port {port}"
    folder = platform.settings.home
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_streamlit_refuses_a_page_of_another_site(platform):
    port = platform.settings.streamlit_port
    for origin, status in (("http://evil.example.com", 403), (f"http://127.0.0.1:{port}", 101)):
        lines = [
            "GET /_stcore/stream HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            f"Origin: {origin}",
            "Upgrade: websocket",
        ]
        lines += [
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            assert connection.recv(64).decode().split()[1] == str(status), origin


def test_logs_are_found_by_name(platform):
    assert "epoch" in platform.run("logs", "stream_transactions", "-n", "2000").stdout
    unknown = platform.run("logs", "nothing")
    assert unknown.returncode != 0
    assert "postgres" in unknown.stderr


def test_down_leaves_no_process(platform):
    stopped = platform.run("down", timeout=120)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert processes.ours(platform.settings) == []
    assert platform.run("status").returncode == 1
