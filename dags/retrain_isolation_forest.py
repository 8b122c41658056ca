"""Trains a new model on the newest transactions and lets it be champion when it is better."""

from airflow.sdk import DAG, Param, task

from include.settings import limits, load

DOC = """
### Retrains the fraud detector
Trains on the feature vectors that the stream logged in the training window, measures on later transactions
whose labels are known, and registers the model in MLflow as `fraud-detector`. The first model becomes
`champion`; a later one does when it is better on the same transactions, and is `challenger` otherwise.

- **It failed?** The task's log ends with the reason, for instance how many transactions it found and how many
  it needs. Mend it and trigger the DAG again: nothing is left half-done.
- **It was killed half-way?** The champion is the old one or the new one, never half; trigger it again.
"""

settings = load()

with DAG(
    dag_id="retrain_isolation_forest",
    description="Isolation Forest on the newest window, judged against the champion",
    schedule=settings.retrain_schedule,
    max_active_runs=1,
    catchup=False,
    tags=["model"],
    doc_md=DOC,
    params={
        "window_days": Param(settings.training_window_days, type="integer", title="Training window in days",
                             **limits("training_window_days")),
        "trees": Param(100, type="integer", minimum=10, maximum=2_000, title="Trees"),
        "alert_rate": Param(settings.alert_rate, type="number", title="Share of transactions to alert on",
                            **limits("alert_rate")),
    },
):  # fmt: skip

    @task(retries=1)
    def train(params: dict) -> dict:
        from include.training.retraining import retrain

        result = retrain(
            load(), window_days=params["window_days"], trees=params["trees"], alert_rate=params["alert_rate"]
        )
        return result.summary()

    train()
