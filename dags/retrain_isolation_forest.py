"""Trains a new model on the newest transactions, compares it with the champion, and promotes it when it is better."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import (
    DAG,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    Param,
    get_current_context,
    task,
)

from include.platform.dags import CHAMPION, DEFAULTS, FEATURES, RETRAINING
from include.settings import load
from include.training import steps

DOC = """
### Retrains the fraud detector
`snapshot` keeps the transactions of the training window, `train` fits and registers, `judge` compares with the
champion and writes every reason into the run in MLflow. The first model or a better one is promoted.

- **Who promotes?** Mode `auto`: the gate. Mode `human`: `approve` waits for a person, the comparison in its text;
  without an answer in `FRAUDSTREAM_APPROVAL_HOURS` the champion stays. docs/models.md has the rules.
- **When?** At `FRAUDSTREAM_RETRAIN_SCHEDULE`, by hand, and when `monitor_model` asks for it.
- **It failed?** The task's log ends with the reason. Do what it says and clear the task, as after a kill: it goes on.
"""

settings = load()
# When the DAG is switched on, no missed run is made up for: it would come in the way of the first training.
timetable = CronTriggerTimetable(settings.retrain_schedule, timezone="UTC", run_immediately=timedelta(0))


def result_of(task_id: str) -> dict[str, Any]:
    return dict(get_current_context()["ti"].xcom_pull(task_ids=task_id) or {})


with DAG(
    dag_id="retrain_isolation_forest", description="A model of the newest window, judged against the champion",
    schedule=AssetOrTimeSchedule(timetable=timetable, assets=[RETRAINING]),
    max_active_runs=1, catchup=False, tags=["model"], doc_md=DOC, default_args=DEFAULTS | {"retries": 1},
    params={name: Param(**field) for name, field in steps.form(settings).items()},
):  # fmt: skip

    @task(inlets=[FEATURES])
    def snapshot() -> dict[str, Any]:
        return steps.take_snapshot(load(), get_current_context()["params"]["window_days"])

    @task
    def train() -> dict[str, Any]:
        return steps.train(load(), result_of("snapshot"), get_current_context()["params"])

    @task
    def judge() -> dict[str, Any]:
        return steps.judge(load(), result_of("snapshot"), result_of("train"))

    @task.branch
    def decide() -> str:
        return steps.next_step(result_of("judge"), get_current_context()["params"]["mode"])

    approve = ApprovalOperator(
        task_id="approve", subject="A better model: promote it?", body="{{ ti.xcom_pull(task_ids='judge')['text'] }}",
        defaults="Reject", response_timeout=timedelta(hours=settings.approval_hours),
    )  # fmt: skip

    @task(trigger_rule="none_failed_min_one_success", outlets=[CHAMPION])
    def promote() -> int:
        run_id = get_current_context()["run_id"]
        return steps.promote(load(), result_of("judge"), result_of("approve"), run_id)

    @task(trigger_rule="none_failed")
    def announce() -> str:
        return steps.outcome(load(), result_of("judge"))

    decided, promoted, announced = decide(), promote(), announce()
    snapshot() >> train() >> judge() >> decided >> [approve, promoted, announced]
    approve >> promoted >> announced
