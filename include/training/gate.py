"""Whether a new model is better than the champion: every reason for and against, and what the decision stands on.

Both models have scored the same later transactions. Noise is that of bootstrap draws over customers: a difference
counts when it is there in nearly all draws. docs/decisions/0011-promotion-gate.md says what was weighed.
"""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from include.features.behaviour import FEATURES
from include.training import evaluation

if TYPE_CHECKING:
    from include.models.scorer import Scorer
    from include.training.evaluation import LabelledScores

MIN_DEFRAUDED = 10  # customers with fraud, to compare two models at all, or in one group
BETTER_SHARE = 0.9  # of the bootstrap draws: in so many must a better model be better
WORSE_SHARE = 0.99  # in so many is it clearly worse in a group: there are many groups
MORE_ALARMS = 1.5  # times as many alerts on a group's honest customers are clearly more
MOST_BYTES = 64 * 2**20
MOST_MICROSECONDS = 200.0  # a transaction, scored in large batches
TIMED_ROWS = 5_000
NEW_CUSTOMER = 10  # payments before this one

Groups = Mapping[str, np.ndarray]
"""By name, which of the N later transactions belong to a group: (N,) bool."""


class Check(NamedTuple):
    """One reason for the new model, or against it."""

    name: str
    passed: bool
    reason: str

    def __str__(self) -> str:
        return f"{'for' if self.passed else 'against'}: {self.name}: {self.reason}"


def defrauded(scored: LabelledScores) -> int:
    """Customers with known fraud."""
    return len(np.unique(scored.user[scored.fraud]))


def groups_of(scored: LabelledScores, features: np.ndarray) -> Groups:
    """Kinds of fraud, new and known customers, and customers by how much a payment of theirs is on average.

    Args:
        features: (N, F) vectors of these transactions.
    """
    new = features[:, FEATURES.index("history")] < np.log1p(NEW_CUSTOMER)
    _, customer = np.unique(scored.user, return_inverse=True)
    mean = np.bincount(customer, scored.amount) / np.bincount(customer)
    low, high = np.quantile(mean, [1 / 3, 2 / 3])
    spends = mean[customer]
    kinds = {f"fraud {name}": scored.scenario == name for name in np.unique(scored.scenario) if name}
    return kinds | {
        "new customers": new,
        "known customers": ~new,
        "customers with small payments": spends < low,
        "customers with middling payments": (spends >= low) & (spends < high),
        "customers with large payments": spends >= high,
    }


def compare(
    ours: LabelledScores,
    theirs: LabelledScores,
    groups: Groups,
    review_cost: float,
    rng: np.random.Generator,
    draws: int = evaluation.DRAWS,
) -> list[Check]:
    """Average precision, money, and each group, on the same N transactions with the same labels.

    Money and groups are compared at the new model's number of alerts: a champion that alerts on everything catches all.

    Args:
        theirs: the champion's decisions.
        review_cost: of an alert, in the currency of the amounts.
    """
    theirs = _with_alerts(theirs, int(ours.alert.sum()))
    seeds = rng.integers(2**32, size=2)
    share = evaluation.better_share(
        ours.fraud, ours.user, ours.score, theirs.score, draws, np.random.default_rng(seeds[0])
    )
    precision = [evaluation.Ranking(scored.fraud, scored.score).areas()[1] for scored in (ours, theirs)]
    honest = {name: int((members & ~ours.fraud).sum()) for name, members in groups.items()}
    decisive = ours.fraud | ours.alert | theirs.alert  # all other rows have the same part in both
    drawn = evaluation.bootstrap_weights(ours.user, draws, np.random.default_rng(seeds[1]))
    weights = [weight[decisive] for weight in drawn]
    ours, theirs = ours[decisive], theirs[decisive]
    groups = {name: members[decisive] for name, members in groups.items()}
    return [
        Check(
            "average precision",
            share >= BETTER_SHARE,
            f"{precision[0]:.3f} against {precision[1]:.3f}, higher in {share:.0%} of the bootstrap draws "
            f"({BETTER_SHARE:.0%} are needed)",
        ),
        _money(ours, theirs, review_cost, weights),
        *_groups(ours, theirs, groups, honest, weights),
    ]


def _with_alerts(scored: LabelledScores, number: int) -> LabelledScores:
    """The decisions with so many alerts, on the highest scores."""
    alert = np.zeros(len(scored), bool)
    alert[np.argsort(-scored.score, kind="stable")[:number]] = True
    return replace(scored, alert=alert)


def _money(
    ours: LabelledScores, theirs: LabelledScores, review_cost: float, weights: Sequence[np.ndarray]
) -> Check:
    """The amounts of fraud with an alert, less what the alerts cost to read.

    Not lower beyond noise, rather than higher: two good models often catch the same frauds.
    """
    gains = [scored.alert * (scored.fraud * scored.amount - review_cost) for scored in (ours, theirs)]
    gained = gains[0] - gains[1]
    share = float(np.mean([float(weight @ gained) >= 0 for weight in weights]))
    return Check(
        "money",
        share >= BETTER_SHARE,
        f"{gains[0].sum():,.2f} of caught fraud less the cost of reviews against {gains[1].sum():,.2f}, at least as "
        f"much in {share:.0%} of the draws ({BETTER_SHARE:.0%} are needed)",
    )


def _groups(
    ours: LabelledScores,
    theirs: LabelledScores,
    groups: Groups,
    honest: Mapping[str, int],
    weights: Sequence[np.ndarray],
) -> Iterator[Check]:
    for name, members in groups.items():
        fraud = members & ours.fraud
        if len(np.unique(ours.user[fraud])) >= MIN_DEFRAUDED:
            mine, other = fraud & ours.alert, fraud & theirs.alert
            worse = float(np.mean([weight @ mine < weight @ other for weight in weights]))
            yield Check(
                name,
                worse < WORSE_SHARE,
                f"{mine.sum()} of {fraud.sum()} frauds have an alert against {other.sum()}, fewer in {worse:.0%} of "
                f"the draws (below {WORSE_SHARE:.0%} is needed)",
            )
        if name.startswith("fraud "):
            continue
        alarms = members & ~ours.fraud
        mine, other = alarms & ours.alert, alarms & theirs.alert
        more = float(np.mean([weight @ mine > MORE_ALARMS * (weight @ other) for weight in weights]))
        yield Check(
            f"honest {name}",
            more < WORSE_SHARE,
            f"{mine.sum()} alerts on {honest[name]:,} honest payments against {other.sum()}, more than "
            f"{MORE_ALARMS:g} times as many in {more:.0%} of the draws (below {WORSE_SHARE:.0%} is needed)",
        )


def bounds(scorer: Scorer, features: np.ndarray) -> list[Check]:
    """Whether a model is small and fast enough for the stream.

    Args:
        features: (N, F) vectors to time it with.
    """
    size = len(pickle.dumps(scorer))
    timed = features[:TIMED_ROWS]
    microseconds = min(_seconds(scorer, timed) for _ in range(3)) / max(len(timed), 1) * 1e6
    return [
        Check("size", size <= MOST_BYTES, f"{size / 2**20:.1f} MB of {MOST_BYTES / 2**20:.0f} MB"),
        Check(
            "latency",
            microseconds <= MOST_MICROSECONDS,
            f"{microseconds:.1f} µs a transaction of {MOST_MICROSECONDS:.0f} µs, in batches of {len(timed):,}",
        ),
    ]


def _seconds(scorer: Scorer, features: np.ndarray) -> float:
    """Of the processors, which does not depend on what else runs."""
    started = time.process_time()
    scorer.score(features)
    return time.process_time() - started


def evidence(facts: Mapping[str, Any]) -> tuple[str, str]:
    """What a decision stands on as JSON with sorted keys, and its sha256, which the ledger of promotions keeps."""
    text = json.dumps(facts, indent=2, sort_keys=True, default=str)
    return text, sha256(text.encode()).hexdigest()
