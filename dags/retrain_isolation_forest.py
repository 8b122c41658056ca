"""Trains a new model on the newest transactions and makes it champion when it is better."""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, get_current_context, task

from include.models.families import AUTO, CHOICES, FEWEST_TREES, MOST_TREES
from include.platform.dags import CHAMPION, DEFAULTS, FEATURES
from include.settings import limits, load

DOC = """
### Retrains the fraud detector
Trains on the feature vectors that the stream logged in the training window, measures on later transactions
whose labels are known, fits the same again on all that is settled, and registers both in MLflow as
`fraud-detector`. The first model becomes
`champion`; a later one does when it is better on the same transactions, and is `challenger` otherwise.

- **Which family?** `auto`, which the daily run takes, fits every family that the known labels allow and takes the best
  on later time. `gradient_boosting` learns from the labels and needs 20 frauds that are known; `isolation_forest`
  needs none. All compete for the same alias.
- **It failed?** The task's log ends with the reason, for instance how many transactions there are and how many
  are needed. Do what it says and trigger the DAG again: nothing is left half-done.
- **It was killed half-way?** The champion is the old one or the new one, never half; trigger it again.
"""

settings = load()

with DAG(
    dag_id="retrain_isolation_forest",
    description="A model of the newest window, judged against the champion",
    # Airflow would otherwise make up for a run of the last hours when the DAG is switched on: before there is a
    # transaction, and in the way of the first training.
    schedule=CronTriggerTimetable(settings.retrain_schedule, timezone="UTC", run_immediately=timedelta(0)),
    max_active_runs=1,
    catchup=False,
    tags=["model"],
    default_args=DEFAULTS,
    doc_md=DOC,
    params={
        "window_days": Param(settings.training_window_days, type="integer", title="Training window in days",
                             **limits("training_window_days")),
        "family": Param(AUTO, enum=[*CHOICES], title="Family of the detector",
                        description="auto: all that the known labels allow, the best on later time"),
        "trees": Param(None, type=["null", "integer"], minimum=FEWEST_TREES, maximum=MOST_TREES, title="Trees",
                       description="empty: the family's own number"),
        "alerts_per_day": Param(settings.alerts_per_day, type="integer", title="Alerts that the team can read in a day",
                                **limits("alerts_per_day")),
        "alert_rate": Param(settings.alert_rate, type="number", title="A fixed share of transactions to alert on",
                            description="0: what costs and capacity give", **limits("alert_rate")),
    },
):  # fmt: skip

    @task(retries=1, inlets=[FEATURES], outlets=[CHAMPION])
    def train() -> dict[str, Any]:
        from include.training.retraining import retrain

        params = get_current_context()["params"]
        names = ("family", "window_days", "trees", "alerts_per_day", "alert_rate")
        result = retrain(load(), **{name: params[name] for name in names})
        return result.summary()

    train()
