"""The packages of include/ stand on floors: each imports from floors below it only, and never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from include.settings import PROJECT_ROOT

FLOORS = (
    {"settings"},
    {"events", "broker"},
    {"sql"},
    {"features", "generator", "grafana", "queries"},
    {"imports", "models"},
    {"registry"},
    {"streams", "training"},
    {"operations"},
    {"platform"},
    {"bench", "faults"},
    {"cli"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ENTRIES = ("dags", "spark_jobs", "plugins", "streamlit_app")  # they import include, nothing imports them


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in (PROJECT_ROOT / "include").rglob("*.py")}


def imported(source: str) -> set[str]:
    """Modules of the project that a source imports, wherever the import stands; those for types only included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {member if member in MODULES else node.module for member in members}
    return {name for name in names if name.partition(".")[0] in ("include", *ENTRIES)}


IMPORTS = {name: imported(path.read_text()) for name, path in MODULES.items()}


def room(module: str) -> str:
    return module.split(".")[1]


def upward(module: str, other: str) -> bool:
    """True when an import goes to another room that does not lie below."""
    return room(module) != room(other) and FLOOR[room(other)] >= FLOOR[room(module)]


def test_every_room_has_a_floor():
    rooms = {room(module) for module in MODULES if module != "include"}
    assert rooms == FLOOR.keys()


def test_no_import_goes_upward():
    upward_imports = {
        f"{module} -> {other}"
        for module, others in IMPORTS.items()
        for other in others
        if module != "include" and other != "include" and upward(module, other)
    }
    assert upward_imports == set()


def test_nothing_imports_an_entry():
    assert [
        (module, other) for module, others in IMPORTS.items() for other in others if other.startswith(ENTRIES)
    ] == []


def test_no_imports_go_in_a_circle():
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    try:
        TopologicalSorter({name: others - packages for name, others in IMPORTS.items()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_an_import_is_seen_in_every_form():
    source = """
import include.settings
from include.registry import aliases, rest
from include.events.label import Label
def later():
    from include import queries
"""
    assert imported(source) == {
        "include.settings", "include.registry.aliases", "include.registry.rest", "include.events.label",
        "include.queries",
    }  # fmt: skip
    assert upward("include.events.label", "include.cli.main") and not upward(
        "include.cli.main", "include.sql"
    )


def test_reading_an_alias_loads_no_training_and_no_learning_library():
    code = "import sys, include.registry.aliases; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = (
        "include.training",
        "include.operations",
        "include.streams",
        "sklearn",
        "mlflow",
        "skops",
        "pyspark",
    )
    assert [name for name in done.stdout.split() if name.startswith(heavy)] == []
