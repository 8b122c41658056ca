"""Writes dead letters to their topics again, once the cause is fixed."""

from airflow.sdk import DAG, Param, get_current_context, task

from include.events.strict_json import Reason
from include.platform.dags import DEAD_LETTERS, DEFAULTS
from include.settings import load

DOC = """
### Replays dead letters
Writes records of `shop.dead_letters` to their topic again, key and value untouched, and marks them as replayed.
Trigger it once the cause is fixed: a limit in the settings, a decoder, a mapping.

- **What becomes of them?** The stream stores those that are valid now. The others become new dead letters.
- **Only some?** Choose a reason (docs/events.md explains each) and how many.
- **It failed?** The task's log says how many Kafka did not confirm; those stay open. Trigger it again when the broker
  answers: a letter that is written twice is stored once.
"""
ALL = "all"

with DAG(
    dag_id="replay_dead_letters",
    description="Writes dead letters to their topics again",
    schedule=None,
    max_active_runs=1,
    catchup=False,
    tags=["stream"],
    default_args=DEFAULTS,
    doc_md=DOC,
    params={
        "reason": Param(ALL, enum=[ALL, *map(str, Reason)], title="Reason"),
        "limit": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=2**31 - 1,
            title="At most so many",
            description="empty: all",
        ),
    },
):

    @task(inlets=[DEAD_LETTERS])
    def replay() -> dict[str, int]:
        from include.operations import dead_letters

        params = get_current_context()["params"]
        reason = None if params["reason"] == ALL else params["reason"]
        return dead_letters.replay(load(), reason, params["limit"])

    replay()
