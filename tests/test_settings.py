"""Settings come from the environment, fail early, and name the variable."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include import settings as module
from include.events.transaction import decode
from include.generator.config import Config
from include.generator.hashing import salt
from include.operations.housekeeping import kept_from
from include.settings import Settings, SettingsError, limits, load
from tests.builders import event_bytes


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


def test_a_webhook_without_a_secret_is_refused():
    with pytest.raises(ValidationError, match="FRAUDSTREAM_ALARM_WEBHOOK_SECRET"):
        Settings(_env_file=None, alarm_webhook_url="https://hook.example.com/a")
    Settings(_env_file=None, alarm_webhook_url="https://hook.example.com/a", alarm_webhook_secret="s")


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


NUMBERS = {
    name: declared
    for name, declared in Settings.model_json_schema()["properties"].items()
    if declared.get("type") in ("integer", "number")
}
STEP = {"integer": 1, "number": 1e-9}


def test_every_number_has_two_bounds_and_a_default_between_them():
    bounds = {name: set(limits(name)) for name in NUMBERS}
    assert len(bounds) > 30
    lower, upper = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
    assert [name for name, keys in bounds.items() if not (keys & lower and keys & upper)] == []
    assert Settings(**{name: declared["default"] for name, declared in NUMBERS.items()}) == Settings()


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_beyond_a_bound_is_refused_and_its_variable_named(name, monkeypatch):
    step = STEP[NUMBERS[name]["type"]]
    for key, bound in limits(name).items():
        beyond = bound if key.startswith("exclusive") else bound + (step if key == "maximum" else -step)
        for value in (beyond, "nan", "inf", "-inf", str(10**30), str(-(10**30))):
            monkeypatch.setenv(f"FRAUDSTREAM_{name.upper()}", str(value))
            load.cache_clear()
            with pytest.raises(SettingsError, match=f"FRAUDSTREAM_{name.upper()}: "):
                load()


def inside(name: str) -> st.SearchStrategy[float]:
    """Numbers that a setting may have, its bounds among them."""
    bounds, kind = limits(name), NUMBERS[name]["type"]
    low = bounds.get("minimum", bounds.get("exclusiveMinimum"))
    high = bounds.get("maximum", bounds.get("exclusiveMaximum"))
    if kind == "integer":
        return st.sampled_from([low, high]) | st.integers(low, high)
    open_ends = {"exclude_min": "exclusiveMinimum" in bounds, "exclude_max": "exclusiveMaximum" in bounds}
    return st.floats(low, high, **open_ends)


DATES = st.datetimes(datetime(2000, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))


@given(st.fixed_dictionaries({name: inside(name) for name in NUMBERS}), DATES)
def test_what_is_reckoned_from_any_usable_numbers_exists(numbers, now):
    settings = Settings(**numbers)
    for name in (name for name in NUMBERS if name.endswith("_days")):
        before = kept_from(getattr(settings, name), now)
        assert before is None or before <= now
    for seconds in (settings.late_after_seconds, settings.future_tolerance_seconds):
        assert now - timedelta(seconds=seconds) <= now <= now + timedelta(seconds=seconds)
    assert now - timedelta(minutes=settings.open_difference_minutes) < now
    value = event_bytes(timestamp=now)
    tolerance = timedelta(seconds=settings.future_tolerance_seconds)
    if len(value) <= settings.max_event_bytes:
        decoded = decode(value, now, max_bytes=settings.max_event_bytes, future_tolerance=tolerance)
        assert decoded.transaction.timestamp == now
    assert Config.from_settings(settings).seed == settings.seed
    assert 0 <= int(salt(settings.seed, "any")) < 2**64


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
