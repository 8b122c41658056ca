"""Every setting of fraudstream, read from the environment and `.env` in this one place.

A setting `kafka_port` is the variable `FRAUDSTREAM_KAFKA_PORT`; an empty variable means the default. A value that
cannot be used raises `SettingsError`, whose message names the variable, the value's problem and where to change it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent
PREFIX = "FRAUDSTREAM_"
MLFLOW_USER = "admin"

# A site's address without a path, since its pages name their own paths; empty: the default.
Address = Annotated[str, Field(pattern=r"^(https?://([\w.-]+|\[[0-9A-Fa-f:]+\])(:\d+)?/?)?$")]
# Where messages are sent; may have a path.
Receiver = Annotated[str, Field(pattern=r"^(https?://[^\s]+)?$")]
Port = Annotated[int, Field(ge=1, le=65_535)]
Days = Annotated[int, Field(ge=0, le=36_500)]  # a hundred years: a date so long ago exists
Role = Literal[
    "owner", "stream_writer", "trainer", "app", "personal", "grafana", "relay", "airflow", "mlflow"
]


class SettingsError(ValueError):
    """A setting is missing or unusable; the message names its variable."""


class KafkaUser(NamedTuple):
    """Whom the brokers know, and the password."""

    name: str
    password: str

    def __repr__(self) -> str:
        return f"KafkaUser({self.name!r}, ***)"


class Settings(BaseSettings):
    """All settings with their defaults: the embedded platform on one machine."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=PROJECT_ROOT / ".env", extra="ignore")

    home: Path = Field(PROJECT_ROOT / ".fraudstream", description="state, logs and generated secrets")
    mounted_secrets: Path | None = Field(
        None, description="folder of secrets from outside, one a file; default: generated in home"
    )
    listen_address: str = Field(
        "127.0.0.1", description="where MLflow, Airflow and Streamlit listen; another one in a container only"
    )

    postgres_host: str = "127.0.0.1"
    postgres_port: Port = 5433
    postgres_database: str = "fraudstream"
    postgres_sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    postgres_passfile: Path = Field(
        Path(), description="libpq password file; default: secrets/pgpass in home"
    )

    kafka_port: Port = 9092
    kafka_controller_port: Port = 9093
    kafka_bootstrap_servers: str = Field("", description="default: 127.0.0.1 and kafka_port")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-256"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_writer_sasl_username: str | None = Field(
        None, description="who writes events, when that is another user than the one who reads them"
    )
    kafka_writer_sasl_password: SecretStr | None = None
    kafka_ssl_ca_location: Path | None = None
    kafka_partitions: int = Field(2, ge=1, le=1000, description="partitions of a topic that `up` creates")
    kafka_replication_factor: int = Field(1, ge=1, le=10)
    transactions_topic: str = "transactions-data"
    labels_topic: str = "transaction-labels"

    airflow_public_url: Address = Field(
        "", description="where browsers reach Airflow's pages; default: 127.0.0.1 and airflow_port"
    )
    streamlit_public_url: Address = Field("", description="likewise, and streamlit_port")
    mlflow_public_url: Address = Field("", description="likewise, and mlflow_port")
    grafana_public_url: Address = Field(
        "", description="likewise; default: no links, as the embedded platform has no Grafana"
    )

    mlflow_port: Port = 5000
    mlflow_tracking_uri: str = Field("", description="default: 127.0.0.1 and mlflow_port")
    mlflow_password: SecretStr | None = Field(
        None,
        description="MLflow asks for it, the user is admin; default: the mounted mlflow_admin, or no log-in",
    )
    model_name: str = "fraud-detector"

    airflow_port: Port = 8080
    airflow_url: str = Field("", description="Airflow's API; default: 127.0.0.1 and airflow_port")
    airflow_task_token_seconds: int = Field(
        30 * 86_400,
        ge=60,
        le=10 * 366 * 86_400,
        description="a task's token for Airflow's API; renewed before it ends, unless the API is away that long",
    )
    streamlit_port: Port = 8501
    relay_url: Address = Field(
        "", description="where Airflow's page gets its figures; default: 127.0.0.1 and relay_port"
    )
    relay_port: Port = Field(9108, description="health and metrics of the relay, which sends alarms")
    app_show_personal_data: bool = Field(
        False, description="the app asks for customers' names and e-mail, as the role personal"
    )

    spark_master: str = "local[2]"
    trigger_interval_ms: int = Field(500, ge=0, le=60_000, description="pause between micro-batches")
    max_offsets_per_trigger: int = Field(40_000, ge=1, le=10_000_000)
    champion_poll_seconds: float = Field(
        5.0, gt=0, le=3600, description="how often the scorer asks for a champion"
    )
    failpoint: str | None = Field(
        None,
        pattern=r"^(before_write|mid_copy|after_commit|before_checkpoint)(:[1-9]\d*)?$",
        description="tests only: kill the driver at this point of a write, or at its n-th passing",
    )

    rate_per_second: float = Field(
        1.0, gt=0, le=100_000, description="live synthetic transactions per second"
    )
    fraud_rate: float = Field(0.01, ge=0, le=0.5)
    profile: Literal["world", "original"] = "world"
    seed: int = Field(7, ge=0, le=2**53)
    customers: int = Field(
        5_000, ge=10, le=10_000_000, description="simulated customers for each transaction a second"
    )
    merchants: int = Field(2_000, ge=10, le=10_000_000, description="the same of merchants")
    history_days: int = Field(21, ge=0, le=730, description="simulated history before the first live event")
    history_events: int = Field(
        150_000, ge=0, le=1_000_000_000, description="size of that history, spread over its days"
    )

    alerts_per_day: int = Field(
        200, ge=1, le=10_000_000, description="alerts that the team can read in a day"
    )
    review_cost: float = Field(
        5.0, gt=0, le=1_000_000, description="of reading an alert, in the currency of the amounts"
    )
    decline_cost: float = Field(
        50.0, gt=0, le=1_000_000, description="of an honest customer whose payment is declined, likewise"
    )
    alert_rate: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="a fixed share of transactions as alerts; 0: what costs and capacity give",
    )
    training_window_days: int = Field(30, ge=1, le=3_650)
    retrain_schedule: str = "@daily"
    promotion_mode: Literal["auto", "human"] = Field(
        "auto", description="who promotes a better model: the gate alone, or a person whom it asks"
    )
    approval_hours: int = Field(24, ge=1, le=24 * 366, description="without an answer the champion stays")

    alarm_webhook_url: Receiver = Field("", description="who is told of incidents and alerts; empty: nobody")
    alarm_webhook_secret: SecretStr | None = Field(
        None, description="signs what the webhook gets; default: the mounted alarm_webhook_secret"
    )
    alarm_slack_url: SecretStr | None = Field(
        None,
        description="a hook as Slack has it; its address is the secret; default: the mounted alarm_slack_url",
    )
    alarm_mail_to: str = Field("", description="addresses with commas between them")
    alarm_mail_from: str = "fraudstream@localhost"
    alarm_smtp_host: str = "127.0.0.1"
    alarm_smtp_port: Port = 587
    alarm_smtp_security: Literal["none", "starttls", "tls"] = "starttls"
    alarm_smtp_username: str | None = None
    alarm_smtp_password: SecretStr | None = Field(
        None, description="default: the mounted alarm_smtp_password"
    )
    alarm_messages_per_hour: int = Field(
        20, ge=1, le=3600, description="at most, to each receiver: of incidents, and as many of alerts"
    )
    fraud_alerts_topic: str = Field(
        "", description="every alert as a record, such as fraud-alerts; empty: none"
    )
    runbook_url: Receiver = Field(
        "", description="what a link to an entry of the runbook starts with; default: its page in Airflow"
    )

    mapping: Path | None = Field(
        None, description="for a topic with other field names: the mapping file of docs/import.md"
    )
    late_after_seconds: int = Field(
        3600, ge=1, le=366 * 86_400, description="older than the newest seen event: late"
    )
    open_difference_minutes: int = Field(
        10,
        ge=1,
        le=366 * 1_440,
        description="a record that has waited longer is an alarm of the reconciliation",
    )
    keep_transactions_days: Days = Field(
        400, description="since they happened and were stored; 0, as in all that follow: forever"
    )
    keep_scores_days: Days = Field(400, description="since the transaction happened and was scored")
    keep_ids_days: Days = Field(
        800,
        description="how long the same event again, or its id in another one, is known; at least as its row",
    )
    keep_labels_days: Days = Field(800, description="since they were known; at least as the transaction")
    keep_alerts_days: Days = Field(800, description="since they were raised; verdicts stay forever")
    keep_dead_letters_days: Days = 400
    keep_replayed_dead_letters_days: Days = Field(30, description="since they were replayed")
    keep_states_days: Days = Field(
        400, description="behaviour of customers and merchants since they were last seen"
    )
    keep_models_days: Days = Field(
        400,
        description="versions of the model in MLflow, their runs and artifacts, since they were registered",
    )
    keep_logs_days: Days = Field(30, description="logs of tasks and Airflow's records of ended runs")
    future_tolerance_seconds: int = Field(300, ge=0, le=366 * 86_400)
    max_event_bytes: int = Field(65_536, ge=256, le=2**26)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value != ""}

    @model_validator(mode="after")
    def _fill_in(self) -> Settings:
        self.home = self.home.expanduser().resolve()
        if self.mapping is not None:
            self.mapping = PROJECT_ROOT / self.mapping.expanduser()
            if not self.mapping.is_file():
                raise ValueError(f"FRAUDSTREAM_MAPPING: there is no file {self.mapping}")
        if self.postgres_passfile == Path():
            self.postgres_passfile = self.home / "secrets" / "pgpass"
        if not self.kafka_bootstrap_servers:
            self.kafka_bootstrap_servers = f"127.0.0.1:{self.kafka_port}"
        if not self.mlflow_tracking_uri:
            self.mlflow_tracking_uri = f"http://127.0.0.1:{self.mlflow_port}"
        if not self.airflow_url:
            self.airflow_url = f"http://127.0.0.1:{self.airflow_port}"
        for page in ("airflow", "streamlit", "mlflow"):
            address = (
                getattr(self, f"{page}_public_url") or f"http://127.0.0.1:{getattr(self, f'{page}_port')}"
            )
            setattr(self, f"{page}_public_url", address.rstrip("/"))
        self.runbook_url = self.runbook_url or f"{self.airflow_public_url}/fraudstream/runbook"
        self.relay_url = self.relay_url.rstrip("/") or f"http://127.0.0.1:{self.relay_port}"
        self.grafana_public_url = self.grafana_public_url.rstrip("/")
        if self.kafka_sasl_password is None:
            self.kafka_sasl_password = self._mounted("kafka_sasl_password")
        if self.kafka_writer_sasl_password is None:
            self.kafka_writer_sasl_password = self._mounted("kafka_writer_sasl_password")
        if self.mlflow_password is None:
            self.mlflow_password = self._mounted("mlflow_admin")
        self.alarm_webhook_secret = self.alarm_webhook_secret or self._mounted("alarm_webhook_secret")
        self.alarm_slack_url = self.alarm_slack_url or self._mounted("alarm_slack_url")
        self.alarm_smtp_password = self.alarm_smtp_password or self._mounted("alarm_smtp_password")
        if self.alarm_webhook_url and not self.alarm_webhook_secret and not self.in_containers:
            raise ValueError(
                "alarm_webhook_url is set, and nothing signs what it gets: set FRAUDSTREAM_ALARM_WEBHOOK_SECRET"
            )
        if self.kafka_security_protocol.startswith("SASL") and self.kafka_reader is None:
            raise ValueError(
                "kafka_security_protocol asks for SASL: set FRAUDSTREAM_KAFKA_SASL_USERNAME and "
                "FRAUDSTREAM_KAFKA_SASL_PASSWORD"
            )
        if self.kafka_writer_sasl_username and not self.kafka_writer_sasl_password:
            raise ValueError(
                "kafka_writer_sasl_username is a user without a password: set "
                "FRAUDSTREAM_KAFKA_WRITER_SASL_PASSWORD"
            )
        return self

    @property
    def kafka_reader(self) -> KafkaUser | None:
        """The user who reads topics and creates them; None where the brokers ask for no log-in."""
        return self._kafka_user(self.kafka_sasl_username, self.kafka_sasl_password)

    @property
    def kafka_writer(self) -> KafkaUser | None:
        """The user who writes events: the reader, unless another one is set."""
        writer = self._kafka_user(self.kafka_writer_sasl_username, self.kafka_writer_sasl_password)
        return writer or self.kafka_reader

    def _kafka_user(self, name: str | None, password: SecretStr | None) -> KafkaUser | None:
        if not self.kafka_security_protocol.startswith("SASL") or not name or not password:
            return None
        return KafkaUser(name, password.get_secret_value())

    @property
    def in_containers(self) -> bool:
        """True where Docker runs the services, each in a container with secrets from outside."""
        return self.mounted_secrets is not None

    def _mounted(self, name: str) -> SecretStr | None:
        path = self.mounted_secrets / name if self.mounted_secrets else None
        secret = path.read_text().strip() if path and path.exists() else ""
        return SecretStr(secret) if secret else None

    def as_environment(self) -> dict[str, str]:
        """These settings as variables, for a process that is to have the same ones: what `.env` says no longer counts.

        A setting without a value is an empty variable, and so is a fraud rate that nobody set: its default is the
        profile's own.
        """
        unset = {"fraud_rate"} - self.model_fields_set
        values = {name: None if name in unset else getattr(self, name) for name in type(self).model_fields}
        return {f"{PREFIX}{name.upper()}": _as_text(value) for name, value in values.items()}

    def conninfo(self, role: Role, database: str | None = None) -> str:
        """libpq connection string of a database role; its password comes from `postgres_passfile`."""
        return (
            f"host={self.postgres_host} port={self.postgres_port} dbname={database or self.postgres_database} "
            f"user={role} sslmode={self.postgres_sslmode} passfile={self.postgres_passfile} "
            f"connect_timeout=5 application_name=fraudstream"
        )

    def sqlalchemy_url(self, role: Role, driver: str = "psycopg", database: str | None = None) -> str:
        """SQLAlchemy URL of a database role, without its password (see `conninfo`)."""
        return (
            f"postgresql+{driver}://{role}@{self.postgres_host}:{self.postgres_port}/"
            f"{database or self.postgres_database}?sslmode={self.postgres_sslmode}"
            f"&passfile={self.postgres_passfile}"
        )


@lru_cache(maxsize=1)
def secret_variables() -> frozenset[str]:
    """The variables whose values nobody else may see."""
    secret = (name for name, field in Settings.model_fields.items() if field.annotation == SecretStr | None)
    return frozenset(f"{PREFIX}{name.upper()}" for name in secret)


def limits(name: str) -> dict[str, Any]:
    """The bounds of a setting as a form needs them: `{"minimum": 1, "maximum": 3650}`, or `exclusive…`."""
    declared = Settings.model_json_schema()["properties"][name]
    return {key: bound for key, bound in declared.items() if key.lower().endswith(("minimum", "maximum"))}


class IsolatedSettings(Settings):
    """Settings that read nothing from outside: neither the environment nor `.env`."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


@lru_cache(maxsize=1)
def load() -> Settings:
    """The settings of this process, read once.

    Raises:
        SettingsError: a variable's value cannot be used; every such variable is named.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = []
        for item in error.errors():
            name = (
                f"{PREFIX}{'_'.join(str(part) for part in item['loc']).upper()}"
                if item["loc"]
                else PREFIX + "*"
            )
            shown = "" if not item["loc"] or name in secret_variables() else f" (is {item['input']!r})"
            problems.append(f"{name}: {item['msg']}{shown}")
        raise SettingsError(
            "unusable settings, change them in the environment or in .env:\n  " + "\n  ".join(problems)
        ) from None
