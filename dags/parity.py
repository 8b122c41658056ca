"""Recomputes features from stored transactions and compares them with what the stream logged."""

from airflow.sdk import DAG, task

from include.settings import load

DOC = """
### Are the logged features those of the stored transactions?
Recomputes the features of all that the stream scored and compares each logged vector (`shop.fraud_scores`) with the
recomputed one. The result stays in `shop.parity_checks`; a difference keeps every new model from becoming champion
until a later run finds none. docs/features.md says what is compared when there are many rows.

- **It failed?** The log's last lines name each feature that differs, in how many rows, by how much, and where. Rows
  that somebody changed or deleted: bring them back and trigger this DAG again. Code whose features changed: raise
  `FEATURE_SET` in include/features/behaviour.py, which starts the comparison anew, and retrain.
"""

with DAG(
    dag_id="parity",
    description="Recomputed features are those that the stream logged, or no model is promoted",
    schedule="30 23 * * *",
    max_active_runs=1,
    catchup=False,
    tags=["model"],
    doc_md=DOC,
):

    @task
    def compare() -> str:
        from include.operations import parity_check

        return str(parity_check.require(parity_check.check(load())))

    compare()
