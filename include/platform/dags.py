"""What all DAGs have: an owner, an incident when a task fails for good, and the assets that connect them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Asset

TRANSACTIONS = Asset("transactions", uri="fraudstream://shop/transactions")
FEATURES = Asset("features", uri="fraudstream://shop/fraud_scores")
DEAD_LETTERS = Asset("dead_letters", uri="fraudstream://shop/dead_letters")
CHAMPION = Asset("champion", uri="fraudstream://models/champion")
RETRAINING = Asset(
    "retraining", uri="fraudstream://models/retraining"
)  # updated when a new model is asked for


def tell_failure(context: Mapping[str, Any]) -> None:
    """Opens an incident for a task that failed for good, unless what it found is an incident of its own."""
    import psycopg

    from include.operations.incidents import Kind, open_incident
    from include.operations.reconcile import BooksOpen
    from include.settings import load
    from include.training.feature_differences import ParityBroken

    error = context.get("exception")
    if isinstance(error, BooksOpen | ParityBroken):
        return
    task = context["ti"]
    summary = " ".join(str(error).split())[:300] or type(error).__name__
    evidence = {"run": task.run_id, "task": task.task_id, "try": task.try_number, "log": task.log_url}
    with psycopg.connect(load().conninfo("owner")) as connection:
        open_incident(connection, Kind.DAG_FAILED, f"{task.dag_id}.{task.task_id}", summary, evidence)


def tell_success(context: Mapping[str, Any]) -> None:
    """Closes the incident of a task that works again."""
    import psycopg

    from include.operations.incidents import Kind, close_incident
    from include.settings import load

    task = context["ti"]
    with psycopg.connect(load().conninfo("owner")) as connection:
        close_incident(connection, Kind.DAG_FAILED, f"{task.dag_id}.{task.task_id}")


DEFAULTS: dict[str, Any] = {
    "owner": "fraudstream",
    "on_failure_callback": tell_failure,
    "on_success_callback": tell_success,
}
