"""The search itself: it finds each word wherever it is put."""

import json
import subprocess
import sys
import zipfile

import psycopg
import pytest

from tests import canaries

WORDS = {"password": "cañary/word+1", "e-mail": "canary@example.com"}


def test_a_word_is_found_as_it_is_and_in_an_address():
    assert canaries.named(WORDS, "postgresql://x:ca%C3%B1ary%2Fword%2B1@host") == ["password"]
    assert canaries.named(WORDS, json.dumps({"to": "canary@example.com"}).encode()) == ["e-mail"]
    assert canaries.named(WORDS, "canary") == []


def test_files_are_searched_also_those_that_are_packed(tmp_path):
    (tmp_path / "a.log").write_text(WORDS["password"])
    (tmp_path / "left out").mkdir()
    (tmp_path / "left out" / "b").write_text(WORDS["password"])
    with zipfile.ZipFile(tmp_path / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", WORDS["e-mail"] * 9)
    leaks = canaries.in_files(WORDS, tmp_path, [tmp_path / "left out"])
    assert leaks == [f"{tmp_path}/a.log: password", f"{tmp_path}/model.skops: e-mail"]


def test_command_lines_are_searched():
    code = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, WORDS["e-mail"]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert canaries.in_processes(WORDS) == [f"command of {process.pid}: e-mail"]
        process.stdin.close()
    assert canaries.in_processes(WORDS) == []


@pytest.mark.services
def test_tables_and_views_are_searched(clean_postgres):
    with psycopg.connect(clean_postgres.conninfo("owner")) as connection:
        connection.execute(
            "insert into shop.verdicts (transaction_id, is_fraud, analyst) values ('t', true, %s)",
            [WORDS["e-mail"]],
        )
    database = clean_postgres.postgres_database
    assert canaries.in_database(WORDS, clean_postgres, database) == [f"{database}.shop.verdicts: e-mail"]
    assert canaries.in_database(WORDS, clean_postgres, database, ["shop.verdicts"]) == []
