"""Stops a stream or the producer."""

from airflow.sdk import DAG, Param, get_current_context, task

from include.operations.jobs import JOBS
from include.platform.dags import DEFAULTS
from include.settings import load

DOC = """
### Stops a stream or the producer
The job finishes its batch and ends. It stays stopped, also after `make up`, until you start it: a stream with
`start_stream`, the producer with `produce_transactions` or `change_producer`. Nothing is lost: a stream goes on where
it last committed.

- **It failed?** The job had not ended within two minutes; the log says what it did. The request stands: look at the
  job's own log, and trigger this DAG again to see whether it has ended.
"""

with DAG(
    dag_id="stop_stream",
    description="Stops a stream or the producer after its batch, and keeps it stopped",
    schedule=None,
    catchup=False,
    tags=["stream", "control"],
    default_args=DEFAULTS,
    doc_md=DOC,
    params={"job": Param(JOBS[0], enum=[*JOBS], title="What to stop")},
):

    @task
    def stop() -> None:
        from include.operations import jobs

        jobs.stop(load(), get_current_context()["params"]["job"])

    stop()
