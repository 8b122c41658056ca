"""The page "Fraud platform" of Airflow as HTML: how the platform is, by the relay's figures, and the runbook."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
from markdown_it import MarkdownIt

from include.settings import PROJECT_ROOT, Settings

ANSWER_SECONDS = 10.0
RUNBOOK = PROJECT_ROOT / "docs" / "operations.md"
BUTTONS = {  # DAGs, in the order of the page
    "stop_stream": "Stop a stream",
    "start_stream": "Start a stream",
    "change_producer": "Change the producer",
    "retrain_isolation_forest": "Retrain",
    "roll_back_model": "Roll back the model",
    "replay_dead_letters": "Replay dead letters",
    "reconcile": "Compare the books",
    "parity": "Compare the features",
}

Figures = Mapping[str, Any]


def figures(settings: Settings) -> Figures | None:
    """What the relay says; None when it does not answer."""
    try:
        answer = httpx.get(f"{settings.relay_url}/figures", timeout=ANSWER_SECONDS, trust_env=False)
        return answer.raise_for_status().json()  # type: ignore[no-any-return]
    except (httpx.HTTPError, ValueError):
        return None


def page(settings: Settings, read: Figures | None) -> str:
    """The page "Fraud platform" as HTML."""
    if read is None:
        body = '<p class="critical">The relay, which has the figures, does not answer.</p>'
        return _document("Fraud platform", body + _buttons(settings), refresh=15)
    parts = (_incidents(settings, read), _streams(read), _numbers(read), _buttons(settings))
    return _document("Fraud platform", "".join(parts), refresh=15)


def _incidents(settings: Settings, read: Figures) -> str:
    if not read["incidents"]:
        return '<h2>Open incidents</h2><p class="good">None.</p>'
    rows = [
        [
            f'<a href="{_text(settings.runbook_url)}#{_text(incident["runbook"])}">{_text(incident["kind"])}</a>',
            _text(incident["subject"]),
            f'<span class="{_text(incident["severity"])}">{_text(incident["summary"])}</span>',
            f"{_text(incident['opened_at'])[:16].replace('T', ' ')} UTC",
        ]
        for incident in read["incidents"]
    ]
    return "<h2>Open incidents</h2>" + _table(("Kind", "Of", "What", "Since"), rows)


def _streams(read: Figures) -> str:
    rows = [
        [
            _text(stream["stream"]),
            f'<span class="{"good" if stream["runs"] else "critical"}">{_text(stream["state"])}</span>'
            + (f" ({_text(stream['detail'])})" if stream["detail"] else ""),
            _number(stream["lag_records"]) if stream["stream"] != "producer" else "",
            _seconds(stream["seconds_since_commit"]),
            _number(stream["starts_total"]),
            _number(stream["stored_total"]),
            _number(stream["dead_letters_total"]),
            _number(stream["duplicates_total"]),
        ]
        for stream in read["streams"]
    ]
    heads = ("Stream", "State", "Lag", "Last commit", "Starts", "Stored", "Dead letters", "Duplicates")
    return "<h2>Streams</h2>" + _table(heads, rows)


def _numbers(read: Figures) -> str:
    broken = [incident for incident in read["incidents"] if incident["kind"] == "books-open"]
    compared = f"{read['reconciled_at'][:16].replace('T', ' ')} UTC" if read["reconciled_at"] else "never"
    rows = [
        ["Books", f"{'differ' if broken else 'agree'}, compared {_text(compared)}"],
        ["Champion", _model(read["champion"])],
        ["Challenger", _model(read["challenger"])],
        [
            "Latency, broker to score",
            f"{_seconds(read['latency_p50'])}; 95 %: {_seconds(read['latency_p95'])}",
        ],
        ["Alerts of the last hour", _number(read["alerts_hour"])],
        [
            "Messages",
            f"{_number(read['messages_waiting'])} wait, {_number(read['messages_undelivered'])} undelivered",
        ],
    ]
    return "<h2>Books, model, messages</h2>" + _table((), rows)


def _model(model: Mapping[str, Any] | None) -> str:
    if model is None:
        return "none"
    made = f"{_text(model['created_at'])[:16].replace('T', ' ')} UTC"
    return (
        f"version {model['version']}, {_text(model['family'])}, threshold {model['threshold']:.3f}, of {made}"
    )


def _buttons(settings: Settings) -> str:
    address = settings.airflow_public_url
    links = [f'<a class="button" href="{address}/dags/{dag}">{label}</a>' for dag, label in BUTTONS.items()]
    links.append(f'<a class="button" href="{settings.runbook_url}">Runbook</a>')
    return f'<h2>Do</h2><p class="buttons">{"".join(links)}</p>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{body}</table>"


def _text(value: object) -> str:
    return html.escape(str(value))


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _seconds(value: float | None) -> str:
    return "none" if value is None else f"{value:,.2f} s" if value < 10 else f"{value:,.0f} s"


STYLE = """
:root { color-scheme: light; --fore: #18181b; --back: #fff; --line: #d4d4d8; --soft: #f4f4f5;
  --good: #15803d; --bad: #b91c1c; --warn: #b45309; }
:root.dark { color-scheme: dark; --fore: #e4e4e7; --back: #111; --line: #3f3f46; --soft: #27272a;
  --good: #4ade80; --bad: #f87171; --warn: #fbbf24; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--fore); background: var(--back); margin: 1.5rem; }
h1 { font-size: 1.4rem } h2 { font-size: 1.05rem; margin: 1.4rem 0 .4rem }
table { border-collapse: collapse }
td, th { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid var(--line) }
th { font-weight: 600 } a { color: inherit } .good { color: var(--good) } .critical { color: var(--bad) }
.warning { color: var(--warn) } .buttons { display: flex; flex-wrap: wrap; gap: .5rem }
.button { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .35rem .8rem;
  text-decoration: none } footer { margin-top: 1.5rem; opacity: .7 }
"""
# Airflow shows the page in a frame that may not navigate: its links are followed by the frame's parent.
SCRIPT = """
const outer = parent === window ? null : parent.document;
const dark = outer ? outer.documentElement.classList.contains("dark")
  : matchMedia("(prefers-color-scheme: dark)").matches;
document.documentElement.classList.toggle("dark", dark);
addEventListener("click", event => {
  const link = event.target.closest("a");
  if (!outer || !link || link.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  const copy = outer.createElement("a");
  copy.href = link.href;
  outer.body.append(copy);
  copy.click();
  copy.remove();
});
"""


def _document(title: str, body: str, refresh: int | None = None) -> str:
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>{again}'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>{body}<footer>{now}</footer>"
        f"<script>{SCRIPT}</script></body></html>"
    )


def runbook(text: str) -> str:
    """The runbook as HTML; its headings have the names that links use."""
    rendered = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)

    def named(match: re.Match[str]) -> str:
        name = re.sub(r"[^\w\- ]", "", match[2].lower()).replace(" ", "-")
        return f'<h{match[1]} id="{name}">{match[2]}</h{match[1]}>'

    return _document("Runbook", re.sub(r"<h([1-6])>(.*?)</h\1>", named, rendered))
