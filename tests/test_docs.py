"""README.md and docs/ name what exists: commands, options, targets, settings, DAGs, files."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

from include.cli import main
from include.settings import PREFIX, PROJECT_ROOT, Settings
from tests.cli.test_main import COMMANDS

README = PROJECT_ROOT / "README.md"
CONTRIBUTING = PROJECT_ROOT / "CONTRIBUTING.md"
DOCUMENTS = [
    README,
    PROJECT_ROOT / "CHANGELOG.md",
    CONTRIBUTING,
    *sorted((PROJECT_ROOT / "docs").rglob("*.md")),
]
TEXTS = {path: path.read_text() for path in DOCUMENTS}

each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT_ROOT))
)


def code(text: str) -> list[str]:
    """Lines of fenced code blocks, and what stands between backticks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    outside = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    inline = [" ".join(fragment.split()) for fragment in re.findall(r"`([^`]+)`", outside)]
    return [line.strip() for block in blocks for line in block.splitlines()] + inline


def invocations(text: str) -> list[list[str]]:
    """The words after each `fraudstream`, without brackets, up to the end of the command."""
    commands = []
    for fragment in code(text):
        for rest in re.findall(r"^(?:\$ )?(?:\.venv/bin/)?fraudstream (.*)", fragment):
            words = re.split(r"[|;&#]", rest)[0].replace("[", " ").replace("]", " ").split()
            if words:
                commands.append(words)
    return commands


def problem(words: list[str]) -> str | None:
    """Why an invocation cannot be, or None."""
    command: click.Command = main.cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"there is no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    options = {
        name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
    } | {
        "--help",
        "-h",
    }
    options |= {"--version"}
    unknown = [word for word in words if word.startswith("-") and word.split("=")[0] not in options]
    return f"{command.name} has no option {unknown[0]}" if unknown else None


@each_document
def test_commands_and_their_options_exist(path):
    assert {" ".join(words): reason for words in invocations(TEXTS[path]) if (reason := problem(words))} == {}


def test_an_unknown_command_or_option_is_noticed():
    text = "`fraudstream dance`, `.venv/bin/fraudstream down --wipe --hard`\n```bash\nfraudstream replay dead-cats\n```"
    assert [problem(words) for words in invocations(text)] == [
        "there is no command dead-cats",
        "there is no command dance",
        "down has no option --hard",
    ]


def test_every_command_is_documented():
    named = {" ".join(words) for path in DOCUMENTS for words in invocations(TEXTS[path])}
    named |= {
        f"{target} " for path in DOCUMENTS for target in make_targets(TEXTS[path])
    }  # make up runs fraudstream up
    assert [name for name in COMMANDS if not any(invocation.startswith(name) for invocation in named)] == []


def make_targets(text: str) -> list[str]:
    return [target for fragment in code(text) for target in re.findall(r"^make ([a-z][a-z-]*)", fragment)]


@each_document
def test_make_targets_exist(path):
    targets = re.findall(r"^([a-z-]+):", (PROJECT_ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(make_targets(TEXTS[path])) <= set(targets)


def variables(text: str) -> set[str]:
    """Settings that a text names; `…KAFKA_PORT` after one stands for the same prefix."""
    long = re.findall(rf"(?<!\w){PREFIX}([A-Z][A-Z_]*)", text)
    short = [name for fragment in re.findall(r"`…([A-Z][A-Z_]+)`", text) for name in [fragment]]
    return {name.lower() for name in long + short}


@each_document
def test_settings_exist(path):
    assert variables(TEXTS[path]) - set(Settings.model_fields) == set()


def test_defaults_in_the_readme_are_those_of_the_code():
    rows = re.findall(r"^\| (`FRAUDSTREAM_.*?) \| (.*?) \|", TEXTS[README], re.MULTILINE)
    assert rows
    for names, defaults in rows:
        fields = [name.lower() for name in re.findall(rf"`(?:{PREFIX}|…)([A-Z_]+)`", names)]
        for field, documented in zip(fields, defaults.replace("`", "").split(", "), strict=True):
            default = Settings.model_fields[field].default
            shown = (
                default.name
                if isinstance(default, Path)
                else f"{default:g}"
                if isinstance(default, float)
                else default
            )
            assert documented == str(shown), field


def test_the_readme_has_each_dag_and_no_other():
    section = re.search(r"^## The DAGs\n(.*?)^## ", TEXTS[README], re.MULTILINE | re.DOTALL)[1]
    files = {path.stem for path in (PROJECT_ROOT / "dags").glob("*.py")}
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == files


def anchors(text: str) -> set[str]:
    """Names that GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_links_lead_to_files_and_headings(path):
    text = re.sub(r"^```\w*\n.*?^```", "", TEXTS[path], flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, heading = unquote(link).partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), link
        assert not heading or heading in anchors(file.read_text()), link


def test_the_files_that_contributing_names_exist():
    paths = re.findall(
        r"`((?:include|docs|tests|dags|streamlit_app|grafana)/[\w./*-]+)`", TEXTS[CONTRIBUTING]
    )
    assert len(paths) > 20
    assert [
        path for path in paths if "NAME" not in path and not list(PROJECT_ROOT.glob(path.rstrip("/")))
    ] == []
