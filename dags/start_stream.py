"""Starts a stream that was stopped."""

from airflow.sdk import DAG, Param, get_current_context, task

from include.platform.dags import DEFAULTS
from include.settings import load
from include.streams import STREAMS

DOC = """
### Starts a stream that was stopped
The stream goes on where it last committed. This DAG succeeds when the stream runs.

- **It failed?** The stream did not run within four minutes. Is its own DAG (`stream_transactions`,
  `stream_fraud_scores`) switched on? Its log says why it does not start; the permission to start stands.
- **The producer?** Trigger `produce_transactions`.
"""

with DAG(
    dag_id="start_stream",
    description="Starts a stream that was stopped with stop_stream",
    schedule=None,
    catchup=False,
    tags=["stream", "control"],
    default_args=DEFAULTS,
    doc_md=DOC,
    params={"job": Param(STREAMS[0], enum=[*STREAMS], title="What to start")},
):

    @task
    def start() -> None:
        from include.operations import jobs

        jobs.start(load(), get_current_context()["params"]["job"])

    start()
