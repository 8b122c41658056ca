"""Keeps the tables small: partitions ahead, and what is older than the settings keep is dropped or deleted."""

from airflow.sdk import DAG, task

from include.settings import load

DOC = """
### Keeps the platform small for years
Makes the partitions of the months to come, moves rows that came before their month had one, and drops or deletes
what is older than `FRAUDSTREAM_KEEP_…_DAYS` says (docs/deploy.md has the list). Deletes old logs of tasks, Airflow's
records of old runs, and from MLflow old models that nothing refers to. The logs say what was done.

- **It failed?** The log's last line says what was in use or could not be reached. What was done before stays done and
  the next run goes on; a day without housekeeping harms nothing.
- **A partition stays though it is old?** It has rows that were stored later, or that `reconcile` has not found right
  yet: mend what that DAG says first.
"""

with DAG(
    dag_id="housekeeping",
    description="Partitions ahead, old rows dropped",
    schedule="30 2 * * *",
    max_active_runs=1,
    catchup=False,
    tags=["operations"],
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
