"""Measures the stored scores against the labels that are known by now."""

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

from include.platform.dags import CHAMPION, DEFAULTS, FEATURES
from include.settings import load

DOC = """
### How good are the scores?
Precision, recall, time to detection and money of the stored scores, as `fraudstream evaluate` measures them. The log
has the tables.

- **It failed?** The log's last line says why: no score of the range has a settled label yet. Choose an earlier range,
  or wait until labels are known. Nothing was changed.
"""

with DAG(
    dag_id="evaluate",
    description="Measures stored scores against known labels",
    schedule=None,
    max_active_runs=1,
    catchup=False,
    tags=["model"],
    default_args=DEFAULTS,
    doc_md=DOC,
    params={
        "start": Param(None, type=["null", "string"], format="date-time", title="From (event time)",
                       description="empty: 30 days before the end"),
        "end": Param(None, type=["null", "string"], format="date-time", title="To (event time)",
                     description="empty: now"),
        "version": Param(None, type=["null", "integer"], minimum=1, maximum=2**31 - 1, title="Version of the model",
                         description="empty: all"),
        "k": Param(100, type="integer", minimum=1, maximum=1_000_000, title="Payments investigated a day"),
    },
):  # fmt: skip

    @task(inlets=[FEATURES, CHAMPION])
    def measure() -> dict[str, Any]:
        from rich.console import Console

        from include.cli.evaluation_report import tables
        from include.training import evaluation

        params = get_current_context()["params"]
        start, end = (params[name] and datetime.fromisoformat(params[name]) for name in ("start", "end"))
        result = evaluation.evaluate(load(), start, end, version=params["version"], k=params["k"])
        Console(width=160).print(*tables(result), sep="\n")
        return {key: value for key, value in result.items() if key != "per_day"}

    measure()
