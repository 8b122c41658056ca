"""Looks every hour whether the champion still scores what it learned."""

from airflow.sdk import DAG, get_current_context, task

from include.platform.dags import DEFAULTS, RETRAINING
from include.settings import load

DOC = """
### Does the champion still score what it learned?
Compares the newest day and week with four weeks before: features, missing fields, partitions, alerts, and the reports
of fraud with their delays. A change is measured by the decisions that it changes. One cause is named: a fault of the
pipeline or of a field, reports that stall, other customers or habits, other fraud, or a champion that is too old. It
opens an incident (`shop.incidents`) that closes by itself; a second one tells of a day with more alerts than the
team can read. Other customers, other fraud or a champion that is too old start a retraining once, when the incident
opens. docs/models.md has the rules, docs/operations.md what to do.

- **It failed?** The log's last line says which service did not answer. The next hour looks again.
"""

with DAG(
    dag_id="monitor_model",
    description="Features, scores, alerts and labels of the newest days against the weeks before",
    schedule="17 * * * *",
    max_active_runs=1,
    catchup=False,
    tags=["model"],
    default_args=DEFAULTS,
    doc_md=DOC,
):

    @task(retries=1)
    def look() -> list[str]:
        from include.operations import model_monitor

        lines = model_monitor.monitor(load())
        print("\n".join(lines))
        return lines

    @task.short_circuit
    def changed() -> bool:
        from include.operations import model_monitor

        run = get_current_context()["dag_run"]
        return model_monitor.asks_for_retraining(load(), run.start_date or run.run_after)

    @task(outlets=[RETRAINING])
    def ask_for_retraining() -> None:
        print("retrain_isolation_forest is to learn from the newest payments")

    look() >> changed() >> ask_for_retraining()
