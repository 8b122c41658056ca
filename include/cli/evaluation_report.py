"""The result of `include.training.evaluation.evaluate` as tables for a person."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

MEASURES = {
    "auc": "ROC AUC",
    "average_precision": "average precision",
    "precision_at_threshold": "precision at the threshold",
    "recall_at_threshold": "recall at the threshold",
}


def tables(result: dict) -> Iterator[Table | str]:
    """What to print, in order."""
    versions = ", ".join(str(version) for version in result["versions"])
    yield (
        f"{result['transactions']:,} transactions from {_minute(result['from'])} to {_minute(result['to'])} UTC, "
        f"scored by version {versions}; labels as known at {_minute(result['as_of'])}"
    )
    yield (
        f"{result['frauds']:,} frauds ({_percent(result['fraud_rate'])}), {result['alerts']:,} alerts "
        f"({_percent(result['alert_rate'])}), {result['caught']:,} of them fraud"
    )
    if result["left_out"]:
        yield (
            f"{result['left_out']:,} newer scores are left out: their labels are settled only until "
            + _minute(result["settled_until"])
        )
    if not result["frauds"]:
        yield "No fraud is known in this range: most measures are not defined. Labels come with the topic of labels"
    yield _measures(result)
    yield _money(result)
    if result["per_scenario"]:
        yield _scenarios(result["per_scenario"])
    yield _days(result["per_day"])


def _measures(result: dict) -> Table:
    table = Table(
        "Measure", "Value", "95 % interval", title="How well scores separate fraud", title_justify="left"
    )
    for name, words in MEASURES.items():
        bounds = result["intervals"].get(name) or []
        table.add_row(words, _number(result[name]), " to ".join(_number(bound) for bound in bounds))
    k = result["k"]
    for name, what in (("at_k", "transactions"), ("customers_at_k", "customers not yet caught")):
        for measure in ("precision", "recall"):
            table.add_row(f"{measure} of the {k:,} highest {what} a day", _number(result[name][measure]), "")
    return table


def _money(result: dict) -> Table:
    found, money = result["detection"], result["money"]
    table = Table("Detection", "", title="Defrauded customers and their money", title_justify="left")
    table.add_row("customers detected", f"{found['detected']:,} of {found['customers']:,}")
    if found["detected"]:
        table.add_row(
            "hours to detection", f"median {found['median_hours']:.1f}, mean {found['mean_hours']:.1f}"
        )
    for name, words in (
        ("fraud", "amount of fraud"),
        ("caught", "in transactions with an alert"),
        ("lost_before_detection", "lost before detection"),
        ("stopped", "from detection on"),
    ):
        table.add_row(words, f"{money[name]:,.2f}")
    return table


def _scenarios(found: dict[str, dict]) -> Table:
    table = Table("Scenario", "Frauds", "Caught", "Recall", title="By kind of fraud", title_justify="left")
    for name, each in sorted(found.items(), key=lambda item: -item[1]["frauds"]):
        table.add_row(name, f"{each['frauds']:,}", f"{each['caught']:,}", _number(each["recall"]))
    return table


def _days(days: list[dict]) -> Table:
    columns = (
        "Day",
        "Transactions",
        "Frauds",
        "Alerts",
        "Caught",
        "Precision",
        "Recall",
        "Average precision",
    )
    table = Table(*columns, title="By day", title_justify="left")
    for each in days:
        counts = (f"{each[name]:,}" for name in ("transactions", "frauds", "alerts", "caught"))
        shares = (_number(each[name]) for name in ("precision", "recall", "average_precision"))
        table.add_row(each["day"], *counts, *shares)
    return table


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.2%}"


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")
