"""Recomputes features from stored transactions and compares them with what the stream logged."""

from airflow.sdk import DAG, task

from include.platform.dags import DEFAULTS, FEATURES, TRANSACTIONS
from include.settings import load

DOC = """
### Are the logged features those of the stored transactions?
Recomputes the features of everything that the stream scored and compares each logged vector (`shop.fraud_scores`)
with the recomputed one. The result stays in `shop.parity_checks`; while there is a difference, no new model becomes
champion. docs/features.md says what is compared when there are many rows.

- **It failed?** The log's last lines name each feature that differs, in how many rows, by how much, and where. Rows
  that somebody changed or deleted: restore them and trigger this DAG again. Features whose code changed: raise
  `FEATURE_SET` in include/features/behaviour.py, which starts the comparison anew, and retrain.
"""

with DAG(
    dag_id="parity",
    description="Compares recomputed features with logged ones; while they differ, no model is promoted",
    schedule="30 23 * * *",
    max_active_runs=1,
    catchup=False,
    tags=["model"],
    default_args=DEFAULTS,
    doc_md=DOC,
):

    @task(inlets=[TRANSACTIONS, FEATURES])
    def compare() -> str:
        from include.operations import parity_check

        return str(parity_check.require(parity_check.check(load())))

    compare()
