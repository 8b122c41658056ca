"""Each message that names something to do has a test that does it, or is listed here as one that no test follows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from include.settings import PROJECT_ROOT

# What a message says when it names something to do. Not in it: errors that only say what is wrong.
REMEDY = re.compile(
    r"delete (the|its) (folder|checkpoint)|as the database's owner|make up|reconcile --accept|doctor --broker-time"
    r"|rename it to|restore the|[Ss]et FRAUDSTREAM_|run the DAG|docker compose restart|check FRAUDSTREAM_"
    r"|name them as|choose another|install \S+ \S|give this user|Choose an earlier|see `fraudstream logs"
)
# A piece of the message: the test that follows it to its end.
FOLLOWED = {
    "name them as {}": "features/test_extra_fields.py::test_another_order_is_refused_with_the_one_that_works",
    "delete from shop.stream_offsets where stream = ": "streams/test_topic_changes.py::"
    "test_the_books_close_parity_holds_and_a_model_may_be_promoted",
    "They are lost, unless a backup has them": "streams/test_sparse_offsets.py::"
    "test_records_deleted_unread_while_it_runs_are_named_with_a_remedy_that_works",
    "as after the database was restored from a backup": "streams/test_runner.py::"
    "test_a_checkpoint_ahead_of_a_restored_database_is_refused",
    "delete the folder {}": "streams/test_sparse_offsets.py::"
    "test_a_checkpoint_that_is_older_than_the_log_is_named_with_a_remedy_that_works",
    "fraudstream reconcile --accept": "operations/test_reconcile.py::"
    "test_a_row_that_is_gone_is_named_with_its_range_until_it_is_accepted",
    "run the DAG parity": "operations/test_parity_check.py::"
    "test_an_altered_vector_is_named_and_blocks_until_it_is_repaired",
    "fraudstream doctor --broker-time": "platform/test_doctor.py::"
    "test_topics_with_their_producers_time_are_named_with_a_command_that_changes_them",
    "rename it to {}": "platform/test_postgres.py::"
    "test_a_migration_below_or_beside_an_applied_one_is_refused_until_it_is_renamed",
    "restore the file, or use the version that applied it": "platform/test_postgres.py::"
    "test_a_database_of_a_newer_version_is_refused_until_that_version_is_back",
    "restore the file and put the change into a new migration": "platform/test_postgres.py::"
    "test_an_edited_migration_is_refused_until_its_change_is_a_new_one",
    "set FRAUDSTREAM_ALARM_WEBHOOK_SECRET": "test_settings.py::test_a_webhook_without_a_secret_is_refused",
    "the watchdog hangs, and nothing else that hangs is restarted": "platform/test_watchdog.py::"
    "test_a_watchdog_that_hangs_itself_is_ended_by_up",
    "`make up` starts it": "test_end_to_end.py::test_up_heals_what_a_crash_left",
    "`make up` restarts it": "test_end_to_end.py::test_up_heals_what_a_crash_left",
    "`make up`": "test_end_to_end.py::test_up_heals_what_a_crash_left",
    "see `fraudstream logs {}`": "test_end_to_end.py::test_logs_are_found_by_name",
}
# Pieces of messages that no test follows to its end: most ask for another machine, account or choice.
NOT_FOLLOWED = {
    "`docker compose restart airflow-scheduler`",
    "install 3.11 or 3.12, then `make up PYTHON=python3.12`",
    "install a Java runtime of 17.0.11 or newer",
    "set FRAUDSTREAM_HOME to a folder on another disk",
    "set FRAUDSTREAM_HOME to a folder of yours",
    "choose another with FRAUDSTREAM_{} in .env",
    "check FRAUDSTREAM_KAFKA_SASL_USERNAME and FRAUDSTREAM_KAFKA_SASL_PASSWORD",
    "check FRAUDSTREAM_KAFKA_SSL_CA_LOCATION",
    "give this user access to the topic",
    "give this user access to the cluster",
    "set FRAUDSTREAM_KAFKA_SASL_USERNAME and FRAUDSTREAM_KAFKA_SASL_PASSWORD",
    "set FRAUDSTREAM_KAFKA_WRITER_SASL_PASSWORD",
    "Choose an earlier range, wait, or shorten the maturity",
    "Faker is not installed",
    "set FRAUDSTREAM_MAPPING={} and FRAUDSTREAM_TRANSACTIONS_TOPIC={}",
}


def texts(tree: ast.AST) -> Iterator[str]:
    """The strings of a module but its docstrings, with {} for what a formatted one fills in."""
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            left_out.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            left_out |= {id(part) for part in ast.walk(node) if part is not node}
            parts = (str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield "".join(parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield node.value


def messages() -> list[str]:
    """The messages of the package that name something to do."""
    files = sorted((PROJECT_ROOT / "include").rglob("*.py"))
    printed = [text for file in files for text in texts(ast.parse(file.read_text()))]
    return [text for text in printed if REMEDY.search(text) and not REMEDY.fullmatch(text)]


def test_each_remedy_is_in_the_list():
    known = [*FOLLOWED, *NOT_FOLLOWED]
    assert [text for text in messages() if not any(piece in text for piece in known)] == []


def test_the_list_has_no_remedy_that_is_printed_no_more():
    printed = messages()
    assert [piece for piece in (*FOLLOWED, *NOT_FOLLOWED) if not any(piece in text for text in printed)] == []


@pytest.mark.parametrize("piece", FOLLOWED)
def test_the_test_that_follows_it_is_there(piece):
    file, name = FOLLOWED[piece].split("::")
    assert f"def {name}(" in (PROJECT_ROOT / "tests" / file).read_text()
