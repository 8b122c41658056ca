"""Keeps the tables small: creates partitions ahead, drops and deletes what is older than the settings keep."""

from airflow.sdk import DAG, task

from include.platform.dags import DEFAULTS
from include.settings import load

DOC = """
### Keeps the platform small for years
Creates the partitions of the coming months, moves rows that arrived before their month had one, and drops or deletes
what is older than the settings `FRAUDSTREAM_KEEP_…_DAYS` (docs/deploy.md has the list). Deletes old logs of tasks,
Airflow's records of old runs, and from MLflow old models that nothing refers to. The logs list what was done.

- **It failed?** The log's last line says what was in use or could not be reached. What was done before stays done and
  the next run goes on; a day without housekeeping harms nothing.
- **An old partition stays?** It has rows that were stored later, or that `reconcile` has not checked yet: fix what
  that DAG reports first.
"""

with DAG(
    dag_id="housekeeping",
    description="Creates partitions ahead, deletes old rows",
    schedule="30 2 * * *",
    max_active_runs=1,
    catchup=False,
    tags=["operations"],
    default_args=DEFAULTS,
    doc_md=DOC,
):

    @task
    def database() -> list[str]:
        from include.operations import housekeeping

        return housekeeping.maintain(load())

    @task
    def platform() -> None:
        from include.platform import tidy

        tidy.delete_old_records(load())

    @task
    def models() -> list[str]:
        from include.operations import old_models

        return old_models.delete_old_models(load())

    database()
    platform()
    models()
