"""Publishes recorded transactions from a file."""

from airflow.sdk import DAG, Param, get_current_context, task

from include.platform.dags import DEFAULTS, TRANSACTIONS
from include.settings import load

DOC = """
### Imports recorded transactions
Put the file and its mapping (docs/import.md; `fraudstream mapping suggest` writes one) into the folder `imports` of the
state folder (`FRAUDSTREAM_HOME`). First try it with "Only check": the log shows ten rows before and after.

- **It failed?** The log's last line names the file, the line and what is wrong; nothing was sent. "Leave bad rows out"
  writes them with their reasons to a file beside the imported one.
- **It was killed half-way?** Trigger it again: what is stored already counts as a duplicate.
"""
NAME = r"^\w[\w.-]*$"

with DAG(
    dag_id="import_transactions",
    description="Publishes recorded transactions from a file in the folder imports",
    schedule=None,
    max_active_runs=1,
    catchup=False,
    tags=["data"],
    default_args=DEFAULTS,
    doc_md=DOC,
    params={
        "file": Param("transactions.csv", type="string", pattern=NAME, title="File in the folder imports"),
        "mapping": Param("mapping.yaml", type="string", pattern=NAME, title="Its mapping, in the same folder"),
        "label_delay_days": Param(7, type="number", minimum=0, maximum=3650, title="Days until a label is known"),
        "dry_run": Param(True, type="boolean", title="Only check, send nothing"),
        "skip_bad": Param(False, type="boolean", title="Leave bad rows out"),
    },
):  # fmt: skip

    @task(outlets=[TRANSACTIONS])
    def publish() -> int:
        from datetime import timedelta

        from include.cli.terminal import import_report
        from include.imports.importer import import_events

        params = get_current_context()["params"]
        settings = load()
        folder = settings.home / "imports"
        report = import_events(
            settings,
            folder / params["file"],
            folder / params["mapping"],
            label_delay=timedelta(days=params["label_delay_days"]),
            dry_run=params["dry_run"],
            skip_bad=params["skip_bad"],
            rejected=folder / f"{params['file']}.rejected.csv",
        )
        print(import_report(report, params["dry_run"]))
        return report.sent_transactions

    publish()
