"""The page "Fraud platform" in Airflow, and links from tasks to what they made."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

from include.settings import Settings, load

PREFIX = "/fraudstream"
DASHBOARD = "fraudstream-monitoring"


class _Link(BaseOperatorLink):
    """A link on every task instance, made when it is looked at."""

    title = ""

    @property
    def name(self) -> str:
        return self.title

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return self.address(load(), operator, ti_key)

    def address(self, settings: Settings, operator: Any, ti_key: Any) -> str:
        raise NotImplementedError


class GrafanaLink(_Link):
    """The dashboard of the streams, from the run's start on."""

    title = "Grafana at the run's time"

    def address(self, settings: Settings, operator: Any, ti_key: Any) -> str:
        if not settings.grafana_public_url:
            return ""
        start, end = run_times(ti_key)
        begin = int(start.timestamp() * 1000) if start else "now-1h"
        until = int(end.timestamp() * 1000) if end else "now"
        return f"{settings.grafana_public_url}/d/{DASHBOARD}?from={begin}&to={until}"


class StreamlitLink(_Link):
    """The page of alerts."""

    title = "Fraud alerts (Streamlit)"

    def address(self, settings: Settings, operator: Any, ti_key: Any) -> str:
        return f"{settings.streamlit_public_url}/alerts"


class MlflowLink(_Link):
    """The model that the task trained, or all versions."""

    title = "Model (MLflow)"

    def address(self, settings: Settings, operator: Any, ti_key: Any) -> str:
        model = f"{settings.mlflow_public_url}/#/models/{settings.model_name}"
        version = trained_version(ti_key)
        return f"{model}/versions/{version}" if version else model


class LogLink(_Link):
    """The task's own log, all of it."""

    title = "Log"

    def address(self, settings: Settings, operator: Any, ti_key: Any) -> str:
        run = f"{settings.airflow_public_url}/dags/{ti_key.dag_id}/runs/{ti_key.run_id}"
        return f"{run}/tasks/{ti_key.task_id}?try_number={ti_key.try_number}"


def run_times(ti_key: Any) -> tuple[datetime | None, datetime | None]:
    """When a task instance started and ended."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    of_key = {name: getattr(ti_key, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
    with create_session() as session:
        query = select(TaskInstance.start_date, TaskInstance.end_date).filter_by(**of_key)
        row = session.execute(query).first()
    return (row[0], row[1]) if row else (None, None)


def trained_version(ti_key: Any) -> int | None:
    """The model's version that a task returned, if it did."""
    import json

    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        query = XComModel.get_many(
            key="return_value",
            run_id=ti_key.run_id,
            dag_ids=ti_key.dag_id,
            task_ids=ti_key.task_id,
            map_indexes=ti_key.map_index,
        ).with_only_columns(XComModel.value)
        row = session.execute(query).first()
    value = json.loads(row[0]) if row and isinstance(row[0], str) else row and row[0]
    return value.get("version") if isinstance(value, dict) else None


class FraudPlatform(AirflowPlugin):
    name = "fraud_platform"
    external_views = [
        {
            "name": "Fraud platform",
            "href": f"{load().airflow_public_url}{PREFIX}/",
            "destination": "nav",
            "url_route": "fraud-platform",
        }
    ]
    global_operator_extra_links = [GrafanaLink(), StreamlitLink(), MlflowLink(), LogLink()]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Read by the API server only: the other processes need not load FastAPI."""
        from include.platform.page_app import app

        return [{"app": app, "url_prefix": PREFIX, "name": "Fraud platform"}]
