"""Settings come from the environment, fail early, and name the variable."""

import re

import pytest
from pydantic import ValidationError

from include import settings as module
from include.settings import Settings, SettingsError, load


@pytest.fixture(autouse=True)
def fresh():
    load.cache_clear()
    yield
    load.cache_clear()


def test_a_bad_value_names_its_variable_and_what_is_wrong(monkeypatch):
    monkeypatch.setenv("FRAUDSTREAM_KAFKA_PORT", "none")
    monkeypatch.setenv("FRAUDSTREAM_ALERT_RATE", "2")
    with pytest.raises(SettingsError) as raised:
        load()
    assert "FRAUDSTREAM_KAFKA_PORT" in str(raised.value)
    assert "FRAUDSTREAM_ALERT_RATE" in str(raised.value)
    assert ".env" in str(raised.value)


def test_sasl_without_credentials_is_refused():
    with pytest.raises(ValidationError, match="FRAUDSTREAM_KAFKA_SASL_PASSWORD"):
        Settings(_env_file=None, kafka_security_protocol="SASL_SSL")


def test_a_password_is_not_shown(monkeypatch):
    monkeypatch.setenv("FRAUDSTREAM_KAFKA_SASL_PASSWORD", "canary")
    assert "canary" not in repr(Settings(_env_file=None))


def test_another_process_gets_the_same_settings(monkeypatch, tmp_path):
    original = Settings(_env_file=None, home=tmp_path, kafka_port=1234, kafka_sasl_password="s")
    for name, value in original.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=None) == original


def test_another_process_gets_them_whatever_its_own_env_file_says(monkeypatch, tmp_path):
    original = Settings(_env_file=None, home=tmp_path)
    file = tmp_path / "other.env"
    file.write_text(
        "FRAUDSTREAM_KAFKA_SASL_USERNAME=alice\nFRAUDSTREAM_MAPPING=gone.yaml\nFRAUDSTREAM_SEED=9\n"
    )
    for name, value in original.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=file) == original


def test_an_empty_variable_means_the_default(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.setenv(f"FRAUDSTREAM_{name.upper()}", "")
    settings = Settings(_env_file=None)
    monkeypatch.undo()
    assert settings == Settings(_env_file=None) and "fraud_rate" not in settings.model_fields_set


@pytest.mark.parametrize("page", ["airflow", "streamlit", "mlflow"])
def test_a_page_is_on_this_machine_unless_a_public_address_is_set(page):
    name = f"{page}_public_url"
    assert getattr(Settings(**{f"{page}_port": 1234}), name) == "http://127.0.0.1:1234"
    assert getattr(Settings(**{name: "https://a.example.com:8443/"}), name) == "https://a.example.com:8443"
    assert getattr(Settings(**{name: "http://[::1]"}), name) == "http://[::1]"


@pytest.mark.parametrize(
    "address", ["a.example.com", "ftp://a", "https://", "https://a/path", "https://*", "https://a b"]
)
def test_an_address_that_no_link_can_have_is_refused(monkeypatch, address):
    monkeypatch.setenv("FRAUDSTREAM_GRAFANA_PUBLIC_URL", address)
    with pytest.raises(SettingsError, match="FRAUDSTREAM_GRAFANA_PUBLIC_URL"):
        load()


def test_database_addresses_hold_no_password(tmp_path):
    settings = Settings(_env_file=None, home=tmp_path)
    assert "password" not in settings.conninfo("app") + settings.sqlalchemy_url("app")


def test_only_the_settings_module_reads_our_variables():
    reading = re.compile(r"""(getenv|environ\.get|environ\[)\W*FRAUDSTREAM_""")
    sources = [path for room in ("include", "dags", "spark_jobs", "streamlit_app", "plugins")
               for path in (module.PROJECT_ROOT / room).rglob("*.py")]  # fmt: skip
    assert [path.name for path in sources if reading.search(path.read_text())] == []
