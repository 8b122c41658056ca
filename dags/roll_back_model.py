"""Makes the previous champion the champion again."""

from airflow.sdk import DAG, Param, get_current_context, task

from include.platform.dags import CHAMPION, DEFAULTS
from include.settings import load

DOC = """
### Takes the last change of the champion back
The champion before the present one becomes champion again, and the scoring stream uses it from its next look on
(`FRAUDSTREAM_CHAMPION_POLL_SECONDS`, 5). Trigger it again to go back further. The ledger `shop.promotions`
says who did so, when and why; `fraudstream model list` shows it.

- **It failed?** The log's last line says why: there is no earlier champion, its model was deleted, or it was trained on
  other features. `fraudstream model list` shows the versions, `fraudstream model promote VERSION` takes one of them.
- **It was killed half-way?** The champion is the old one or the new one; trigger it again if it is the wrong one.
"""

with DAG(
    dag_id="roll_back_model",
    description="The previous champion scores again",
    schedule=None,
    max_active_runs=1,
    catchup=False,
    tags=["model"],
    default_args=DEFAULTS,
    doc_md=DOC,
    params={"reason": Param("", type="string", minLength=1, title="Why, for the ledger of promotions")},
):

    @task(outlets=[CHAMPION])
    def roll_back() -> int:
        from include.training import promotion

        context = get_current_context()
        person = context["dag_run"].triggering_user_name or "Airflow"
        return promotion.roll_back(load(), f"{person} with roll_back_model", context["params"]["reason"])

    roll_back()
