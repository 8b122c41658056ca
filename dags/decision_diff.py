"""Compares what a version of the model would decide with what was decided."""

from datetime import datetime

from airflow.sdk import DAG, Param, get_current_context, task

from include.platform.dags import DEFAULTS
from include.settings import load

DOC = """
### What would this version decide otherwise?
Scores the stored vectors of a range again with a version of the model, or with another threshold, and compares its
alerts with those that were raised: alerts gained and lost, known fraud and money, alerts a day, by kind of fraud and
by customers, with ten examples of each. The log has it in sentences; the page Model performance shows the newest
result, and the version's run in MLflow has all of it as `decision_diff.json`.

- **Which version?** Empty: the challenger; the champion when only a threshold is given.
- **It failed?** The log's last line says what to do. A run that was killed goes on where it was when it starts again.
"""

with DAG(
    dag_id="decision_diff",
    description="A version's decisions against those that were made",
    schedule=None,
    max_active_runs=1,
    catchup=False,
    tags=["model"],
    default_args=DEFAULTS,
    doc_md=DOC,
    params={
        "version": Param(None, type=["null", "integer"], minimum=1, maximum=2**31 - 1, title="Version",
                         description="empty: the challenger"),
        "threshold": Param(None, type=["null", "number"], minimum=0, maximum=1, title="Another threshold",
                           description="empty: the version's own"),
        "start": Param(None, type=["null", "string"], format="date-time", title="From (event time)",
                       description="empty: 7 days before the end"),
        "end": Param(None, type=["null", "string"], format="date-time", title="To (event time)",
                     description="empty: the newest transaction"),
    },
):  # fmt: skip

    @task(retries=1)
    def compare() -> str:
        from include.training.decision_diff import diff, sentences

        params = get_current_context()["params"]
        start, end = (params[name] and datetime.fromisoformat(params[name]) for name in ("start", "end"))
        result = diff(load(), params["version"], params["threshold"], start, end)
        print("\n".join(sentences(result)))
        return result.hash

    compare()
