"""Compares the broker, the ledger and the stored rows, and fails with what does not fit."""

from airflow.sdk import DAG, task

from include.platform.dags import DEFAULTS
from include.settings import load

DOC = """
### Compares broker, ledger and rows
For each Kafka partition: what the broker holds, what the streams' ledger has read, and the rows in
`shop.transactions`, `shop.dead_letters` and `shop.fraud_scores` since the last run. A record may wait for
`FRAUDSTREAM_OPEN_DIFFERENCE_MINUTES`; rows and ledger never differ.

- **It failed?** The log's last lines name the stream, the partition, the range of offsets and what is wrong.
  `fraudstream status` shows the same as long as they differ.
- **Records have waited for too long?** The stream does not run or is too slow: its DAG's log says why.
- **Rows are missing because somebody deleted them on purpose?** `fraudstream reconcile --accept`, once.
"""

with DAG(
    dag_id="reconcile",
    description="Compares broker, ledger and rows; an alarm names the partition and range",
    schedule="*/10 * * * *",
    max_active_runs=1,
    catchup=False,
    tags=["operations"],
    default_args=DEFAULTS,
    doc_md=DOC,
):

    @task
    def compare() -> None:
        from include.operations import reconcile

        reconcile.require(reconcile.reconcile(load()))

    compare()
