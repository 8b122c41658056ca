"""The embedded servers start, are provisioned, and keep to loopback."""

import httpx
import psutil
import psycopg
import pytest
from pydantic import SecretStr

from include.platform import mlflow, ports, services
from include.platform import postgres as postgres_server
from include.platform.temporary import running

pytestmark = pytest.mark.services


def test_provisioning_may_be_repeated(postgres):
    count = "select count(*) from shop.transaction_ids"
    with psycopg.connect(postgres.conninfo("stream_writer"), autocommit=True) as connection:
        before = connection.execute(count).fetchone()
        postgres_server.provision(postgres)
        assert connection.execute(count).fetchone() == before


def test_nothing_listens_beyond_loopback(kafka, mlflow_server):
    ours = {kafka.kafka_port, kafka.kafka_controller_port, kafka.mlflow_port, kafka.postgres_port}
    listening = [socket for socket in psutil.net_connections("tcp") if socket.status == psutil.CONN_LISTEN]
    addresses = {(socket.laddr.port, socket.laddr.ip) for socket in listening if socket.laddr.port in ours}
    assert {port for port, _ in addresses} == ours
    assert {ip.removeprefix("::ffff:") for _, ip in addresses} == {"127.0.0.1"}


def test_postgres_which_may_run_as_another_user_is_told_no_password(settings, monkeypatch):
    monkeypatch.setenv("FRAUDSTREAM_KAFKA_SASL_PASSWORD", "canary")
    with_password = settings.model_copy(update={"kafka_sasl_password": SecretStr("canary")})
    assert "canary" in services.environment(with_password, services.SERVICES["streamlit"]).values()
    environment = services.environment(with_password, services.SERVICES["postgres"])
    assert "canary" not in environment.values()
    assert environment["FRAUDSTREAM_HOME"] == str(settings.home)


ELSEWHERE = (
    "evil.example.com",
    "10.evil.example.com",
    "192.168.0.7",
    "127.0.0.1.evil.example.com:{port}",
    "",
)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_mlflow_refuses_another_host(mlflow_server, host):
    """A page of another site that makes its own name point to this machine gets nothing (DNS rebinding)."""
    answer = _asked(mlflow_server, "GET", {"Host": host.format(port=mlflow_server.mlflow_port)})
    assert answer.status_code in (400, 403) and "experiments" not in answer.text


@pytest.mark.parametrize("origin", ["https://evil.example.com", "http://127.0.0.1.evil.example.com", "null"])
def test_mlflow_refuses_what_a_page_of_another_site_sends(mlflow_server, origin):
    answer = _asked(mlflow_server, "POST", {"Origin": origin})
    assert answer.status_code == 403
    asked = _asked(mlflow_server, "OPTIONS", {"Origin": origin, "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in asked.headers


def test_mlflow_answers_those_of_this_machine(mlflow_server):
    for name in ("127.0.0.1", "localhost"):
        at = f"{name}:{mlflow_server.mlflow_port}"
        assert _asked(mlflow_server, "POST", {"Host": at, "Origin": f"http://{at}"}).status_code == 200


@pytest.fixture(scope="module")
def behind_a_proxy(postgres, tmp_path_factory):
    """An MLflow that people reach by another name."""
    (port,) = ports.free(1)
    at = {"home": tmp_path_factory.mktemp("mlflow"), "mlflow_port": port, "mlflow_public_url": PUBLIC}
    settings = postgres.model_copy(update=at | {"mlflow_tracking_uri": f"http://127.0.0.1:{port}"})
    command, variables = mlflow.command(settings), mlflow.environment(settings)
    with running("mlflow", settings, command, lambda: mlflow.ready(settings), variables):
        yield settings


PUBLIC = "https://mlflow.example.com"


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("mlflow.example.com", PUBLIC, 200),
        ("mlflow.example.com", "https://evil.example.com", 403),
        ("evil.example.com", PUBLIC, 403),
    ],
)
def test_mlflow_answers_by_its_public_address_and_to_its_pages_there(behind_a_proxy, host, origin, status):
    assert _asked(behind_a_proxy, "POST", {"Host": host, "Origin": origin}).status_code == status


def test_the_status_names_the_public_addresses(settings):
    pages = {"airflow-api-server": "airflow", "streamlit": "streamlit", "mlflow": "mlflow"}
    public = settings.model_copy(
        update={f"{page}_public_url": f"https://{page}.example.com" for page in pages.values()}
    )
    for name, page in pages.items():
        assert services.SERVICES[name].address(public) == f"https://{page}.example.com"
        port = getattr(settings, f"{page}_port")
        assert services.SERVICES[name].address(settings) == f"http://127.0.0.1:{port}"


def _asked(settings, method: str, headers: dict[str, str]) -> httpx.Response:
    where = f"http://127.0.0.1:{settings.mlflow_port}/api/2.0/mlflow/experiments/search"
    more = {"params": {"max_results": 1}} if method == "GET" else {"json": {"max_results": 1}}
    return httpx.request(method, where, headers=headers, trust_env=False, timeout=30, **more)
