"""What commands print on: consoles, coloured states, and words for what several of them may meet."""

from __future__ import annotations

from rich.console import Console


def console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def wide_console() -> Console:
    """For tables: a pipe has no width, and addresses must not be cut there."""
    return Console(highlight=False, soft_wrap=True, width=max(120, Console().width))


def coloured(state: str, good: str) -> str:
    return f"[{'green' if state == good else 'red'}]{state}[/]"


def no_database(error: Exception) -> str:
    return f"PostgreSQL does not answer: {' '.join(str(error).split())}; is the platform up? See fraudstream status"
