"""Writes synthetic transactions to Kafka until it is stopped."""

from airflow.sdk import DAG

from include.platform.dags import DEFAULTS
from include.platform.forms import producer_form
from include.platform.spark_submit import spark_job
from include.settings import load

DOC = """
### Produces synthetic transactions
Publishes simulated weeks of history first (once), then live transactions at the chosen rate.

- **Other rate, fraud rate or profile:** trigger `change_producer`. **To stop it:** `stop_stream`.
- **Own data instead:** leave this DAG off; see "Bring your own data" in the README.
- **It failed?** It tries again every 5 seconds. A transaction that is sent twice is stored once.
"""

settings = load()

with DAG(
    dag_id="produce_transactions",
    description="Synthetic transactions to Kafka",
    schedule=None,
    max_active_runs=1,
    catchup=False,
    tags=["producer"],
    default_args=DEFAULTS,
    doc_md=DOC,
    params=producer_form(settings),
):
    spark_job(
        "producer",
        arguments=[
            "--rate", "{{ params.rate }}",
            "--fraud-rate", "{{ 'own' if params.fraud_rate is none else params.fraud_rate }}",
            "--profile", "{{ params.profile }}",
            "--seed", "{{ params.seed }}",
            "{{ '--history' if params.history else '--no-history' }}",
        ],
        retries=1_000,
    )  # fmt: skip
