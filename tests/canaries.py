"""Looks for words that must not be where they are looked for: passwords and keys, a customer's name and e-mail."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from include.settings import Settings

Words = Mapping[str, str]  # what each word is, and the word

TABLES = """
select relnamespace::regnamespace::text, relname from pg_class
where relkind in ('r', 'v', 'm') and relnamespace::regnamespace::text !~ '^(pg_|information_schema)' order by 1, 2"""


def named(words: Words, text: str | bytes) -> list[str]:
    """Which of the words stand in a text, as they are or percent-encoded."""
    raw = text.encode() if isinstance(text, str) else text
    return [
        name for name, word in words.items() if word.encode() in raw or quote(word, safe="").encode() in raw
    ]


def in_files(words: Words, folder: Path, without: Iterable[Path] = ()) -> list[str]:
    """`path: word` for each file below a folder that holds a word; looks into zip files, as models are."""
    leaks = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or any(path.is_relative_to(other) for other in without):
            continue
        leaks += [f"{path}: {name}" for content in _contents(path) for name in named(words, content)]
    return leaks


def _contents(path: Path) -> Iterator[bytes]:
    try:
        yield path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from map(archive.read, archive.namelist())
    except FileNotFoundError:  # a log that was rotated, a temporary file
        return


def in_processes(words: Words) -> list[str]:
    """Command lines of this machine's processes that hold a word, and environments that another user may read."""
    leaks, me = [], psutil.Process().uids().real
    for process in psutil.process_iter():
        try:
            texts = {"command": "\0".join(process.cmdline())}
            if process.uids().real != me:
                texts["environment"] = "\0".join(process.environ().values())
        except psutil.Error:
            continue
        leaks += [
            f"{what} of {process.pid}: {name}" for what, text in texts.items() for name in named(words, text)
        ]
    return leaks


def in_database(words: Words, settings: Settings, database: str, without: Iterable[str] = ()) -> list[str]:
    """`schema.table: word` for each table or view of a database that holds a word."""
    conninfo = settings.conninfo("owner", database).replace("user=owner", "user=postgres")
    leaks = set()
    with psycopg.connect(conninfo) as connection:
        for schema, table in connection.execute(TABLES).fetchall():
            if f"{schema}.{table}" in without:
                continue
            rows = sql.SQL("select t::text from {} t").format(sql.Identifier(schema, table))
            for (row,) in connection.execute(rows):
                leaks |= {f"{database}.{schema}.{table}: {name}" for name in named(words, row)}
    return sorted(leaks)
