"""Says how the whole platform is."""

from airflow.sdk import DAG, task

from include.platform.dags import DEFAULTS
from include.settings import load

DOC = """
### How is the platform?
What `fraudstream status` shows, with the books compared: services, streams, counts, champion, and each problem with
what to do about it. The log has it as JSON.

- **It failed?** Something is wrong with the platform: the log's last lines are the problems, each with its remedy. Do
  what they say and trigger this DAG again.
"""

with DAG(
    dag_id="health_report",
    description="Services, streams, counts, books and champion; fails when something is wrong",
    schedule=None,
    max_active_runs=1,
    catchup=False,
    tags=["operations"],
    default_args=DEFAULTS,
    doc_md=DOC,
):

    @task
    def report() -> None:
        import json

        from include.platform import status

        result = status.status(load(), books=True)
        print(json.dumps(result, indent=1, default=str))
        status.require(result)

    report()
