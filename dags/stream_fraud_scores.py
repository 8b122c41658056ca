"""Scores every transaction with the champion model."""

from airflow.sdk import DAG

from include.platform.dags import CHAMPION, DEFAULTS, FEATURES
from include.platform.spark_submit import STREAM_START, spark_job
from include.streams import FRAUD_STREAM

DOC = """
### Scores the transactions
Runs without end: computes behaviour features, scores with the champion of the MLflow registry and writes
`shop.fraud_scores` and `shop.fraud_alerts`. Of the labels it uses only how many payments of the same customer,
merchant, device, category and country were reported as fraud before the payment's day.

- **No champion yet?** It waits and says so (`fraudstream status`), and starts by itself when there is one.
- **A new champion** is picked up within seconds, without a restart.
- **MLflow is down?** The last good champion continues to score.
- **It failed?** It starts again by itself and continues exactly where it last committed.
- **To stop it:** trigger `stop_stream`; the job and its children end after their batch. `start_stream` starts it again.
"""

with DAG(
    dag_id="stream_fraud_scores",
    description="Kafka to PostgreSQL: scores, reasons and alerts",
    schedule="@continuous",
    start_date=STREAM_START,
    max_active_runs=1,
    catchup=False,
    tags=["stream"],
    default_args=DEFAULTS,
    doc_md=DOC,
):
    spark_job(FRAUD_STREAM, inlets=[CHAMPION], outlets=[FEATURES])
