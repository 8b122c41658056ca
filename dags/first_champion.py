"""Trains the first model as soon as enough transactions are stored."""

from typing import Any

from airflow.sdk import DAG, task

from include.platform.dags import CHAMPION, DEFAULTS, TRANSACTIONS
from include.settings import load

DOC = """
### Trains the first model by itself
`make up` triggers this DAG once, while there is no model. It waits until the training window
(`FRAUDSTREAM_TRAINING_WINDOW_DAYS` before the newest transaction) holds enough transactions, which `fraudstream status`
counts, and trains. The model becomes champion and the stream scores with it. Later ones come from
`retrain_isolation_forest`.

- **It failed?** The log of `train` ends with the reason. Do what it says and clear the task: it trains again.
- **It waits though data was imported?** Only transactions of the training window count: import more of the newest
  days, or set a longer window.
"""

with DAG(
    dag_id="first_champion",
    description="The first model, once enough transactions are stored",
    schedule=None,
    max_active_runs=1,
    catchup=False,
    tags=["model"],
    default_args=DEFAULTS,
    doc_md=DOC,
):

    @task.sensor(poke_interval=20.0, timeout=10 * 365 * 86_400.0, mode="reschedule")
    def enough_transactions() -> bool:
        from include.training import first_champion

        return first_champion.is_due(load())

    @task(retries=1, inlets=[TRANSACTIONS], outlets=[CHAMPION])
    def train() -> dict[str, Any]:
        from include.training import first_champion

        return first_champion.train(load())

    enough_transactions() >> train()
