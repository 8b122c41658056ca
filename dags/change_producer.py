"""Lets the producer go on with another rate, fraud rate or profile."""

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, task

from include.operations.jobs import PRODUCER
from include.platform.airflow import PRODUCER_DAG
from include.platform.dags import DEFAULTS
from include.platform.forms import producer_form
from include.settings import load

DOC = """
### Changes the rate of the synthetic transactions
Stops the producer and triggers `produce_transactions` with these values: one step, nothing to mark.

- **It failed at `stop`?** The producer had not delivered all it had within two minutes: Kafka may be away. Trigger this
  DAG again when `fraudstream status` is well.
- **It failed at `start`?** Trigger `produce_transactions` with the values.
"""
settings = load()
FORM = producer_form(settings)

with DAG(
    dag_id="change_producer",
    description="The producer goes on with another rate, fraud rate or profile",
    schedule=None,
    max_active_runs=1,
    catchup=False,
    tags=["producer", "control"],
    default_args=DEFAULTS,
    doc_md=DOC,
    params=FORM,
    render_template_as_native_obj=True,
):

    @task
    def stop() -> None:
        from include.operations import jobs

        jobs.stop(settings, PRODUCER)

    stop() >> TriggerDagRunOperator(
        task_id="start",
        trigger_dag_id=PRODUCER_DAG,
        conf={name: f"{{{{ params.{name} }}}}" for name in FORM},
    )
