"""The runbook has an entry for each kind of incident and no other."""

from __future__ import annotations

import re

import pytest

from include.operations.incidents import Kind
from include.settings import PROJECT_ROOT

RUNBOOK = (PROJECT_ROOT / "docs" / "operations.md").read_text().partition("\n## Runbook\n")[2]
ENTRIES = dict(re.findall(r"^### (\S+)\n(.*?)(?=^### |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))


def test_there_is_an_entry_for_each_kind_and_no_other():
    assert ENTRIES.keys() == {*map(str, Kind)}


@pytest.mark.parametrize("kind", Kind)
def test_an_entry_says_what_it_means_what_to_look_at_and_what_to_press(kind):
    assert re.findall(r"^- \*\*(.*?):\*\*", ENTRIES[kind], re.MULTILINE) == ["Means", "Look at", "Press"]
