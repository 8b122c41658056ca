"""What keeps the type checker honest: nothing is excused as a whole, neither in the code nor in its configuration."""

from __future__ import annotations

import re
import tomllib

import pytest

from include.settings import PROJECT_ROOT

MYPY = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
CHECKED = [PROJECT_ROOT / name for name in MYPY["files"]]
NOT_OURS = {".venv", ".fraudstream", "build", "dist"}
SOURCES = [
    path for path in PROJECT_ROOT.rglob("*.py") if path.relative_to(PROJECT_ROOT).parts[0] not in NOT_OURS
]
EXCUSE = re.compile(r"#\s*(?:type:\s*ignore(?!\[[a-z])|mypy:)")


def blanket_excuses(text: str) -> list[str]:
    """Comments that silence the checker for a file, or for any error of a line."""
    return [line.strip() for line in text.splitlines() if EXCUSE.search(line)]


@pytest.mark.parametrize(
    "line", ["x = 1  # type" + ": ignore", "#type" + ":ignore", "# mypy" + ": ignore-errors"]
)
def test_a_blanket_excuse_is_seen(line):
    assert blanket_excuses(line) == [line]


def test_an_excuse_with_its_error_is_none():
    assert blanket_excuses("x = 1  # type" + ": ignore[assignment]") == []


def test_no_code_excuses_itself_from_the_checker():
    excuses = {str(path): blanket_excuses(path.read_text()) for path in SOURCES}
    assert {path: lines for path, lines in excuses.items() if lines} == {}


def test_the_checker_is_strict_and_sees_every_file():
    unseen = [path for path in SOURCES if not any(path.is_relative_to(checked) for checked in CHECKED)]
    assert unseen == [] and len(SOURCES) > 250
    assert MYPY["strict"] is True
    assert "ignore-without-code" in MYPY["enable_error_code"]
    assert not MYPY.keys() & {
        "disable_error_code",
        "ignore_errors",
        "ignore_missing_imports",
        "follow_imports",
    }


def test_an_override_names_what_it_excuses_and_why():
    excused = {"ignore_missing_imports", "implicit_reexport", "warn_return_any", "disallow_subclassing_any"}
    for override in MYPY["overrides"]:
        assert override.keys() - {"module"} <= excused, override
        assert not [name for name in override["module"] if name.startswith("*")], override
