"""Writes synthetic transactions to Kafka until it is stopped."""

from airflow.sdk import DAG, Param

from include.platform.spark_submit import spark_job
from include.settings import limits, load

DOC = """
### Produces synthetic transactions
Publishes simulated weeks of history first (once), then live transactions at the chosen rate.

- **Other rate, fraud rate or profile:** mark the running task as success, then trigger the DAG with the new values.
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
    doc_md=DOC,
    params={
        "rate": Param(settings.rate_per_second, type="number", title="Transactions per second",
                      **limits("rate_per_second")),
        "fraud_rate": Param(None, type=["null", "number"], **limits("fraud_rate"),
                            title="Share of fraudulent transactions",
                            description="empty: the setting's, or the profile's own (world 1 %, original 10 %)"),
        "profile": Param(settings.profile, enum=["world", "original"], title="Profile",
                         description="world: persistent customers and hard fraud; original: the first design's"),
        "seed": Param(settings.seed, type="integer", title="Seed of the simulated world", **limits("seed")),
        "history": Param(True, type="boolean", title="Publish the simulated history first",
                         description="does nothing when the topic has it already"),
    },
):  # fmt: skip
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
