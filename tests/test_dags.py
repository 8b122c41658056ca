"""The DAGs load, say what they do, and stay thin."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from mlflow import MlflowClient

from include.events.strict_json import Reason
from include.features.behaviour import FEATURES
from include.generator.config import Config
from include.models.families import AUTO, CHOICES
from include.platform import dags as dag_defaults
from include.platform.airflow import DAGS, PRODUCER_DAG, RETRAIN_DAG, STREAM_DAGS
from include.registry import aliases, promotions
from include.registry.loading import load_scorer
from include.settings import PREFIX, PROJECT_ROOT, Settings
from include.streams import STREAMS
from include.training import promotion
from include.training.snapshot import SnapshotLost
from spark_jobs.producer import arguments
from tests import stored_world
from tests.registered import register

FILES = sorted((PROJECT_ROOT / "dags").glob("*.py"))


@pytest.fixture(scope="module")
def dags():
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(PROJECT_ROOT / "dags")
    assert bag.import_errors == {}
    return bag.dags


def test_up_waits_for_every_dag_and_switches_it_on(dags):
    assert set(DAGS) == dags.keys()


def test_every_dag_tells_an_operator_what_it_does(dags):
    assert [name for name, dag in dags.items() if not dag.doc_md or "failed" not in dag.doc_md] == []


def test_every_dag_has_a_description_tags_an_owner_and_an_alarm(dags):
    bare = [name for name, dag in dags.items() if not (dag.description and dag.tags and dag.doc_md)]
    tasks = [task for dag in dags.values() for task in dag.tasks]
    assert bare == [] and {task.owner for task in tasks} == {"fraudstream"}
    quiet = {task.task_id for task in tasks if dag_defaults.tell_failure not in task.on_failure_callback}
    assert quiet == {*STREAMS, "producer"}  # they start again by themselves


def test_every_field_of_a_form_is_typed_bounded_and_named(dags):
    for name, dag in dags.items():
        for field in dag.params:
            schema = dag.params.get_param(field).schema
            types = schema.get("type", [])
            assert schema.get("title") and ("enum" in schema or types), (name, field)
            if {"number", "integer"} & {*([types] if isinstance(types, str) else types)}:
                assert any("inimum" in key for key in schema), (name, field)
                assert any("aximum" in key for key in schema), (name, field)


def test_the_assets_connect_the_dags(dags):
    made = {asset.name for dag in dags.values() for task in dag.tasks for asset in task.outlets}
    used = {asset.name for dag in dags.values() for task in dag.tasks for asset in task.inlets}
    scheduled = {asset.name for asset in dags[RETRAIN_DAG].timetable.asset_condition.objects}
    assert scheduled == {"retraining"}
    assert made == used | scheduled == {"transactions", "features", "dead_letters", "champion", "retraining"}


def test_the_producer_gets_every_value_of_the_form_as_it_was_entered(dags):
    start = dags["change_producer"].get_task("start")
    entered = {"rate": 2.5, "fraud_rate": None, "profile": "original", "seed": 11, "history": False}
    assert (
        start.render_template(start.conf, {"params": entered}, dags["change_producer"].get_template_env())
        == entered
    )
    assert dags["change_producer"].params.keys() == dags[PRODUCER_DAG].params.keys()


def test_every_file_is_named_like_its_dag_and_thin(dags):
    assert {file.stem for file in FILES} == dags.keys()
    assert [file.name for file in FILES if len(file.read_text().splitlines()) > 80] == []


@pytest.mark.parametrize("name", STREAM_DAGS)
def test_a_stream_has_one_run_in_its_pool_without_time_out(dags, name):
    (task,) = dags[name].tasks
    assert dags[name].max_active_runs == 1
    assert task.pool == "streams"
    assert task.execution_timeout is None


@pytest.mark.parametrize("hour", [0, 1, 12, 23])
def test_the_first_daily_retraining_waits_for_its_hour(dags, hour, monkeypatch):
    """Switched on soon after midnight, Airflow would make up for the run of that midnight, before there is any data."""
    import pendulum
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.timetables import trigger
    from airflow.timetables.base import TimeRestriction

    now = pendulum.datetime(2026, 11, 27, hour, 10, tz="UTC")
    monkeypatch.setattr(trigger, "utcnow", lambda: now)
    stored = json.loads(json.dumps(DagSerialization.to_dict(dags[RETRAIN_DAG])))
    timetable = DagSerialization.from_dict(stored).timetable
    first = timetable.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(None, None, catchup=False)
    )
    assert first.run_after == pendulum.datetime(2026, 11, 28, tz="UTC")


@pytest.mark.parametrize("name", STREAM_DAGS)
def test_a_second_run_of_a_stream_gets_another_logical_date(dags, name):
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.timetables.base import TimeRestriction

    dag = DagSerialization.from_dict(DagSerialization.to_dict(dags[name]))
    restriction = TimeRestriction(earliest=dag.start_date, latest=None, catchup=False)
    first = dag.timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    second = dag.timetable.next_dagrun_info(
        last_automated_data_interval=first.data_interval, restriction=restriction
    )
    assert first.logical_date < second.logical_date <= datetime.now(UTC)


def test_forms_start_from_the_settings(dags):
    params = dags[PRODUCER_DAG].params
    assert {"rate", "fraud_rate", "profile", "seed"} <= params.keys()
    assert {"window_days", "trees", "alerts_per_day", "alert_rate"} <= dags[RETRAIN_DAG].params.keys()


def test_every_family_can_be_trained_from_the_form(dags):
    form = dags[RETRAIN_DAG].params
    family, trees = form.get_param("family"), form.get_param("trees")
    assert (family.schema["enum"], family.resolve(), trees.resolve()) == ([*CHOICES], AUTO, None)


class Run:
    """A run of the retraining's DAG, task by task, as Airflow would run it; `answers` are those of the operators."""

    def __init__(self, dag, settings, monkeypatch, **entered):
        self.dag, self.answers = dag, {}
        self.form = {name: dag.params.get_param(name).resolve() for name in dag.params} | entered
        for task in dag.tasks:
            if hasattr(task, "python_callable"):
                names = task.python_callable.__globals__
                monkeypatch.setitem(names, "get_current_context", lambda: self.context)
                monkeypatch.setitem(names, "load", lambda: settings)

    @property
    def context(self):
        pulled = SimpleNamespace(xcom_pull=lambda task_ids: self.answers.get(task_ids))
        return {"params": self.form, "ti": pulled, "run_id": "manual__1"}

    def __call__(self, *names):
        for name in names:
            self.answers[name] = json.loads(json.dumps(self.dag.get_task(name).python_callable()))
        return self.answers[names[-1]]


@pytest.fixture
def shop(clean_postgres, mlflow_server, tmp_path):
    stored_world.fill(clean_postgres, history_events=4_000, fraud_rate=0.05)
    return clean_postgres.model_copy(update={"model_name": f"model-{uuid4().hex}", "home": tmp_path})


def entries(shop):
    with psycopg.connect(shop.conninfo("app")) as connection:
        return promotions.read(connection)


@pytest.mark.services
def test_a_retraining_in_tasks_promotes_the_first_model_and_keeps_its_twin_as_challenger(
    dags, shop, monkeypatch
):
    run = Run(dags[RETRAIN_DAG], shop, monkeypatch, family="isolation_forest", trees=20)
    run("snapshot")
    assert run.answers["snapshot"]["transactions"] > 3_000 and len(run.answers["snapshot"]["sha256"]) == 64
    assert run("train", "judge", "decide") == "promote"
    assert aliases.champion(shop) is None and aliases.challenger(shop).version == 2
    assert run("promote", "announce") == "version 2 is champion: the first model"
    newest = entries(shop)[0]
    assert (newest.actor, newest.mode, newest.parity) == (
        "retrain_isolation_forest, manual__1",
        "auto",
        "clean",
    )
    run_id = aliases.champion(shop).run_id
    client = MlflowClient(shop.mlflow_tracking_uri)
    evidence = Path(client.download_artifacts(run_id, "gate/evidence.json", str(shop.home))).read_bytes()
    assert sha256(evidence).hexdigest() == newest.evidence == run.answers["judge"]["evidence"]
    assert client.get_run(run_id).data.params["snapshot"] == run.answers["snapshot"]["sha256"]

    # The same rows, though more was stored meanwhile, give the same model.
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as owner:
        owner.execute("delete from shop.transactions where transaction_id in"
                      " (select transaction_id from shop.transactions order by timestamp limit 100)")  # fmt: skip
    assert run("train", "judge", "decide") == "announce"
    first, again = (load_scorer(shop, version) for version in (2, 4))
    features = np.random.default_rng(0).normal(size=(500, len(FEATURES))).astype(np.float32)
    assert (first.score(features) == again.score(features)).all() and first.threshold == again.threshold
    assert "version 4 is challenger, version 2 stays champion: compared with" in run("announce")
    assert "### Against\n\n- average precision: 0." in run.answers["judge"]["text"]
    for file in (shop.home / "snapshots").iterdir():
        file.unlink()
    with pytest.raises(SnapshotLost, match="clear the task snapshot"):
        run("train")
    run("snapshot", "train")


@pytest.mark.services
def test_a_person_is_asked_with_the_comparison_and_named_in_the_ledger(dags, shop, monkeypatch):
    run = Run(dags[RETRAIN_DAG], shop, monkeypatch, family="isolation_forest", trees=5, mode="human")
    assert run("snapshot", "train", "judge", "decide") == "approve"
    assert aliases.champion(shop) is None
    run.answers["approve"] = {
        "chosen_options": ["Approve"],
        "responded_by_user": {"id": "1", "name": "ada"},
    }
    run("promote")
    newest = entries(shop)[0]
    assert (newest.actor, newest.mode) == ("ada in retrain_isolation_forest, manual__1", "human")


def test_without_an_approval_the_champion_stays(dags):
    dag = dags[RETRAIN_DAG]
    approve, promote, announce = (dag.get_task(name) for name in ("approve", "promote", "announce"))
    assert (approve.defaults, approve.response_timeout) == (["Reject"], timedelta(hours=24))
    assert approve.downstream_task_ids == {"promote"} and not approve.ignore_downstream_trigger_rules
    assert promote.trigger_rule == "none_failed_min_one_success"
    assert announce.trigger_rule == "none_failed"
    assert dag.get_task("decide").downstream_task_ids == {"approve", "promote", "announce"}
    assert [task.task_id for task in dag.topological_sort()] == [
        "snapshot", "train", "judge", "decide", "approve", "promote", "announce",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "profile", "rate"), [(None, "original", 0.1), (None, "world", 0.01), (0.3, "original", 0.3)]
)
def test_the_fraud_rate_is_the_profiles_own_unless_one_is_entered(dags, monkeypatch, given, profile, rate):
    (task,) = dags[PRODUCER_DAG].tasks
    params = {name: dags[PRODUCER_DAG].params[name] for name in dags[PRODUCER_DAG].params}
    context = {"params": params | {"fraud_rate": given, "profile": profile}}
    rendered = task.render_template(task.application_args, context)
    settings = Settings(_env_file=None)
    passed = settings.as_environment()  # what Airflow gives to the job
    assert passed[f"{PREFIX}FRAUD_RATE"] == ""
    for name, value in passed.items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    asked = arguments([str(argument) for argument in rendered], settings)
    config = Config.from_settings(settings, fraud_rate=asked.fraud_rate, profile=asked.profile)
    assert (config.profile, config.fraud_rate) == (profile, rate)


@pytest.mark.services
def test_the_previous_champion_comes_back_and_the_ledger_names_who_asked(
    dags, clean_postgres, mlflow_server, tmp_path, monkeypatch
):
    name = f"model-{uuid4().hex}"
    shop = clean_postgres.model_copy(update={"model_name": name, "home": tmp_path})
    for _ in range(2):
        promotion.promote(shop, register(shop).version)
    (task,) = dags["roll_back_model"].tasks
    context = {
        "params": {"reason": "too many alerts"},
        "dag_run": SimpleNamespace(triggering_user_name="ada"),
    }
    monkeypatch.setitem(task.python_callable.__globals__, "get_current_context", lambda: context)
    monkeypatch.setitem(task.python_callable.__globals__, "load", lambda: shop)
    assert task.python_callable() == 1 == aliases.champion(shop).version
    with psycopg.connect(shop.conninfo("app")) as connection:
        newest = promotions.read(connection, 1)[0]
    assert (newest.kind, newest.actor, newest.reason, newest.mode) == (
        "rollback", "ada with roll_back_model", "too many alerts", "human",
    )  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_reading_a_dag_loads_nothing_heavy(file):
    code = (
        f"import runpy, sys; runpy.run_path({str(file)!r}); "
        "print([name for name in ('pyspark', 'sklearn', 'mlflow', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_dead_letters_can_be_chosen_by_every_reason(dags):
    reason, limit = (dags["replay_dead_letters"].params.get_param(name) for name in ("reason", "limit"))
    assert reason.schema["enum"] == ["all", *Reason]
    assert (reason.resolve(), limit.resolve()) == ("all", None)


@pytest.mark.services
def test_a_task_that_fails_is_an_incident_until_it_succeeds(clean_postgres, monkeypatch):
    import psycopg

    from include import settings as settings_module
    from include.operations.reconcile import BooksOpen

    monkeypatch.setattr(settings_module, "load", lambda: clean_postgres)
    task = SimpleNamespace(
        dag_id="parity", task_id="compare", run_id="r1", try_number=1, log_url="http://a/log"
    )
    query = "select subject, summary, closed_at is not null from shop.incidents order by id"
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as connection:
        dag_defaults.tell_failure({"ti": task, "exception": BooksOpen("has an incident of its own")})
        assert connection.execute(query).fetchall() == []
        dag_defaults.tell_failure({"ti": task, "exception": ValueError("no such file")})
        assert connection.execute(query).fetchall() == [("parity.compare", "no such file", False)]
        dag_defaults.tell_success({"ti": task})
        assert connection.execute(query).fetchall() == [("parity.compare", "no such file", True)]


def test_an_import_reads_the_folder_of_imports_and_nothing_else(dags, monkeypatch, tmp_path):
    from include.events.mapping import MappingError

    publish = dags["import_transactions"].get_task("publish").python_callable
    pattern = dags["import_transactions"].params.get_param("file").schema["pattern"]
    import re

    assert re.search(pattern, "card-2026.csv.gz")
    assert not any(
        re.search(pattern, name) for name in ("../secrets/pgpass", "/etc/passwd", ".env", "a b", "")
    )
    form = dags["import_transactions"].params
    settings = Settings(_env_file=None, home=tmp_path)
    (tmp_path / "imports").mkdir()
    (tmp_path / "imports" / "mapping.yaml").write_text("fields: [")
    monkeypatch.setitem(publish.__globals__, "load", lambda: settings)
    entered = {"params": {key: form[key] for key in form}}
    monkeypatch.setitem(publish.__globals__, "get_current_context", lambda: entered)
    with pytest.raises(MappingError, match=str(tmp_path / "imports" / "mapping.yaml")):
        publish()


def test_a_health_report_fails_with_the_problems(dags, monkeypatch, capsys):
    from include.platform import status

    report = dags["health_report"].get_task("report").python_callable
    result = {"services": {"kafka": {"state": "healthy"}}, "problems": []}
    monkeypatch.setattr(status, "status", lambda settings, books: result)
    report()
    assert '"problems": []' in capsys.readouterr().out
    result["problems"].append("kafka is stopped")
    with pytest.raises(status.Unhealthy, match="kafka is stopped"):
        report()


@pytest.mark.services
def test_an_evaluation_says_why_there_is_nothing_to_measure(dags, monkeypatch, clean_postgres):
    from include.training.evaluation import NothingToEvaluate

    measure = dags["evaluate"].get_task("measure").python_callable
    form = dags["evaluate"].params
    monkeypatch.setitem(measure.__globals__, "load", lambda: clean_postgres)
    entered = {"params": {key: form[key] for key in form}}
    monkeypatch.setitem(measure.__globals__, "get_current_context", lambda: entered)
    with pytest.raises(NothingToEvaluate):
        measure()
