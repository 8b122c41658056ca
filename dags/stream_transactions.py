"""Stores every valid transaction, and every bad record as a dead letter."""

from airflow.sdk import DAG

from include.platform.dags import DEAD_LETTERS, DEFAULTS, TRANSACTIONS
from include.platform.spark_submit import STREAM_START, spark_job
from include.streams import TRANSACTION_STREAM

DOC = """
### Stores the transactions
Runs without end: reads the topics of transactions and labels, writes `shop.transactions`,
`shop.fraud_transactions` and `shop.dead_letters`.

- **It failed?** It starts again by itself within seconds and continues exactly where it last committed.
  Nothing is lost and nothing is stored twice. If it keeps failing, the task's log ends with the reason.
- **To stop it:** trigger `stop_stream`; the job and its children end after their batch. `start_stream` starts it again.
"""

with DAG(
    dag_id="stream_transactions",
    description="Kafka to PostgreSQL: transactions, labels and dead letters",
    schedule="@continuous",
    start_date=STREAM_START,
    max_active_runs=1,
    catchup=False,
    tags=["stream"],
    default_args=DEFAULTS,
    doc_md=DOC,
):
    spark_job(TRANSACTION_STREAM, outlets=[TRANSACTIONS, DEAD_LETTERS])
