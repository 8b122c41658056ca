"""Whether fraud in a simulated world is hard to find: no single field, nor two of them, may give it away.

Everything is judged as a detector would be: learnt on earlier transactions, measured on later ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from include.generator.batch import plain

# What one field, or a tree of depth 2 over all of them, may reach at most on the default world.
MOST_PRECISION, MOST_AUC = 0.10, 0.80
MOST_TREE_PRECISION, MOST_TREE_AUC = 0.10, 0.80
SMOOTHING = 20  # transactions of the overall fraud rate that are added to each value of a text field


@dataclass(frozen=True)
class Separation:
    """How well a score tells fraud from honest transactions: average precision and area under the ROC curve."""

    precision: float
    auc: float


@dataclass(frozen=True)
class Difficulty:
    """Separation by each field alone, and by a tree of depth 2 over all of them."""

    fraud_rate: float
    fields: dict[str, Separation]
    tree: Separation

    def too_easy(self) -> dict[str, Separation]:
        """What separates better than the bounds of this module."""
        too_easy = {
            name: separation
            for name, separation in self.fields.items()
            if separation.precision > MOST_PRECISION or separation.auc > MOST_AUC
        }
        if self.tree.precision > MOST_TREE_PRECISION or self.tree.auc > MOST_TREE_AUC:
            too_easy["tree of depth 2"] = self.tree
        return too_easy


def measure(events: pa.Table, truth: pa.Table) -> Difficulty:
    """Judges transactions in order of time with their truth (as in `Batch`).

    The first third teaches the fraud rate of each value of a text field, the second third the trees; the last
    third is measured.
    """
    fraud = truth["is_fraud"].to_numpy(zero_copy_only=False)
    thirds = np.arange(len(fraud)) * 3 // len(fraud)
    learn, fit, judge = (thirds == third for third in range(3))
    columns = _columns(plain(events), fraud, learn)
    fields = {
        name: _judge(values[:, None], fraud, fit, judge, max_leaf_nodes=16)
        for name, values in columns.items()
    }
    together = np.column_stack(list(columns.values()))
    return Difficulty(float(fraud.mean()), fields, _judge(together, fraud, fit, judge, max_depth=2))


def _judge(x: np.ndarray, fraud: np.ndarray, fit: np.ndarray, judge: np.ndarray, **limits: int) -> Separation:
    tree = DecisionTreeClassifier(min_samples_leaf=20, random_state=0, **limits).fit(x[fit], fraud[fit])
    score = tree.predict_proba(x[judge])[:, 1]
    return Separation(
        float(average_precision_score(fraud[judge], score)), float(roc_auc_score(fraud[judge], score))
    )


def _columns(events: pa.Table, fraud: np.ndarray, learn: np.ndarray) -> dict[str, np.ndarray]:
    """Each field as numbers: itself, or for a text the fraud rates of its value, first letters and length."""
    columns: dict[str, np.ndarray] = {}
    for name, column in zip(events.column_names, events.itercolumns(), strict=True):
        if name == "is_fraud":
            continue
        if pa.types.is_timestamp(column.type):
            columns["hour"] = pc.hour(column).to_numpy()
            columns["weekday"] = pc.day_of_week(column).to_numpy()
        elif pa.types.is_string(column.type):
            text = column.fill_null("")
            columns[name] = _rates(text, fraud, learn)
            columns[f"{name}: first letters"] = _rates(pc.utf8_slice_codeunits(text, 0, 2), fraud, learn)
            columns[f"{name}: length"] = pc.utf8_length(text).to_numpy()
        else:
            columns[name] = column.cast(pa.float64()).fill_null(-1e6).to_numpy()
    return columns


def _rates(text: pa.ChunkedArray, fraud: np.ndarray, learn: np.ndarray) -> np.ndarray:
    codes: np.ndarray = text.combine_chunks().dictionary_encode().indices.to_numpy()
    size = codes.max() + 1
    seen = np.bincount(codes[learn], minlength=size)
    frauds = np.bincount(codes[learn], weights=fraud[learn], minlength=size)
    rates: np.ndarray = ((frauds + SMOOTHING * fraud[learn].mean()) / (seen + SMOOTHING))[codes]
    return rates
