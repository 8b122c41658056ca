"""The result of `include.training.evaluation.evaluate` as tables for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from include.training.evaluation import Day, Evaluation, ScenarioRecall


def tables(result: Evaluation) -> Iterator[Table | str]:
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
    if result["labels_without_event"]:
        yield (
            f"{result['labels_without_event']:,} labels of this range are of no stored transaction (id and timestamp): "
            "they count nowhere"
        )
    if not result["frauds"]:
        yield "No fraud is known in this range: most measures are not defined. Labels come with the topic of labels"
    yield _measures(result)
    yield _money(result)
    if result["per_scenario"]:
        yield _scenarios(result["per_scenario"])
    yield _days(result["per_day"])


def _measures(result: Evaluation) -> Table:
    table = Table(
        "Measure", "Value", "95 % interval", title="How well scores separate fraud", title_justify="left"
    )
    for measure, name, value in (
        ("ROC AUC", "auc", result["auc"]),
        ("average precision", "average_precision", result["average_precision"]),
        ("precision at the threshold", "precision_at_threshold", result["precision_at_threshold"]),
        ("recall at the threshold", "recall_at_threshold", result["recall_at_threshold"]),
    ):
        bounds = result["intervals"].get(name) or []
        table.add_row(measure, _number(value), " to ".join(_number(bound) for bound in bounds))
    k = result["k"]
    for investigated, at_k in (
        ("transactions", result["at_k"]),
        ("customers not yet caught", result["customers_at_k"]),
    ):
        table.add_row(f"precision of the {k:,} highest {investigated} a day", _number(at_k["precision"]), "")
        table.add_row(f"recall of the {k:,} highest {investigated} a day", _number(at_k["recall"]), "")
    return table


def _money(result: Evaluation) -> Table:
    detection, money = result["detection"], result["money"]
    table = Table("Detection", "", title="Defrauded customers and their money", title_justify="left")
    table.add_row("customers detected", f"{detection['detected']:,} of {detection['customers']:,}")
    if detection["detected"]:
        table.add_row(
            "hours to detection",
            f"median {detection['median_hours']:.1f}, mean {detection['mean_hours']:.1f}",
        )
    for measure, amount in (
        ("amount of fraud", money["fraud"]),
        ("in transactions with an alert", money["caught"]),
        ("lost before detection", money["lost_before_detection"]),
        ("from detection on", money["stopped"]),
    ):
        table.add_row(measure, f"{amount:,.2f}")
    return table


def _scenarios(scenarios: Mapping[str, ScenarioRecall]) -> Table:
    table = Table("Scenario", "Frauds", "Caught", "Recall", title="By kind of fraud", title_justify="left")
    for name, scenario in sorted(scenarios.items(), key=lambda item: -item[1]["frauds"]):
        frauds, caught = f"{scenario['frauds']:,}", f"{scenario['caught']:,}"
        table.add_row(name, frauds, caught, _number(scenario["recall"]))
    return table


def _days(days: Sequence[Day]) -> Table:
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
    for day in days:
        counts = (day["transactions"], day["frauds"], day["alerts"], day["caught"])
        shares = (day["precision"], day["recall"], day["average_precision"])
        table.add_row(day["day"], *(f"{count:,}" for count in counts), *map(_number, shares))
    return table


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.2%}"


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")
