"""The examples in the docstrings of features and models are true, and each public name there has one."""

from __future__ import annotations

import doctest
import inspect
from importlib import import_module

import pytest

from include.settings import PROJECT_ROOT

MODULES = sorted(
    ".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts)
    for room in ("features", "models")
    for path in (PROJECT_ROOT / "include" / room).glob("*.py")
    if path.stem != "__init__"
)
WITHOUT_EXAMPLE = {
    "counts", "as_read", "in_time", "keep", "names",  # read PostgreSQL
    "Columns", "Coded", "Change", "Sum", "Seen", "Feature", "ScoredPayment", "AlertReason", "Tree",  # records
    "Detector",  # a contract
    "UnusableFeatures", "UnknownFamily",
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name):
    report: list[str] = []
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder().find(import_module(name)):
        runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("features.words")])
def test_each_public_name_has_an_example(name):
    public = {
        key
        for key, value in vars(import_module(name)).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or inspect.isroutine(inspect.unwrap(value)))
        and value.__module__ == name
    }
    having = {
        example.name.removeprefix(f"{name}.").partition(".")[0]
        for example in doctest.DocTestFinder().find(import_module(name))
        if example.examples
    }
    assert public - WITHOUT_EXAMPLE <= having
