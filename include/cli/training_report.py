"""The result of `include.training.retraining.retrain` in lines for a person."""

from __future__ import annotations

from collections.abc import Iterator

from include.training.retraining import TrainingResult


def lines(result: TrainingResult) -> Iterator[str]:
    """What to print, in order."""
    yield f"Version {result.version} ({result.family}) is {result.alias}: {result.reason}"
    yield (
        f"It learned from transactions with {result.vectors} features, from {result.trained_from:%Y-%m-%d %H:%M} to "
        f"{result.trained_to:%Y-%m-%d %H:%M} UTC; threshold {result.threshold:.4f}"
    )
    yield _decisions(result)
    if len(result.compared) > 1:
        compared = ", ".join(f"{family} {_number(value)}" for family, value in result.compared.items())
        yield f"Average precision of the families on the later transactions: {compared}"
    for family, why in result.left_out.items():
        yield f"Left out: {family}. {why[0].upper()}{why[1:]}"
    if result.measured_by is not None:
        yield (
            f"Measured by version {result.measured_by}, the same recipe, which learned from {result.rows['fit']:,} "
            f"transactions until {result.measured_from:%Y-%m-%d %H:%M} UTC"
        )
    metrics = result.metrics
    if not metrics.get("frauds"):
        yield f"No fraud is known among the {metrics['transactions']:,} later transactions: nothing was measured"
        return
    measures = {
        "average precision": metrics["average_precision"],
        "ROC AUC": metrics["auc"],
        "precision": metrics["precision_at_threshold"],
        "recall": metrics["recall_at_threshold"],
    }
    yield (
        f"On {metrics['transactions']:,} later transactions with {metrics['frauds']:,} frauds: "
        + ", ".join(f"{name} {_number(value)}" for name, value in measures.items())
    )


def _decisions(result: TrainingResult) -> str:
    """How many alerts a day are expected, by which rule, and what they bring."""
    rule = result.decision_rule
    money = rule["expected_money_a_day"]
    block = result.block_threshold
    return (
        f"Expected a day: {rule['expected_alerts_a_day']:,.0f} alerts of {rule['transactions_a_day']:,.0f} payments "
        f"({rule['alert_share']:.2%}, by {rule['rule']}; the team can read {rule['alerts_per_day']:,})"
        + ("" if money is None else f", worth {money:,.0f} after reviews and declined honest payments")
        + ("" if block is None else f"; from a score of {block:.4f} on the payment is to be declined")
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
