"""Keeps the sums that Grafana's dashboards read up to date."""

from airflow.sdk import DAG, task

from include.platform.dags import DEFAULTS
from include.settings import load

DOC = """
### Sums for the dashboards
Adds what both streams have read since the last run to the tables `shop.activity`, `shop.score_counts`,
`shop.delay_counts` and `shop.flagged`, from which Grafana's dashboards are drawn. Newer transactions are read one by
one: without this DAG the figures stay right and become slower to draw. What labels say shows after the next run.

- **It failed?** The log's last line has PostgreSQL's message. Nothing was changed, and the next run adds everything.
"""

with DAG(
    dag_id="refresh_rollups",
    description="Adds new transactions to the sums that dashboards read",
    schedule="*/5 * * * *",
    max_active_runs=1,
    catchup=False,
    tags=["operations"],
    default_args=DEFAULTS,
    doc_md=DOC,
):

    @task
    def refresh() -> None:
        from include.operations import rollups

        rollups.refresh(load())

    refresh()
