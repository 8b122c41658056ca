"""Fitted trees as one ONNX TreeEnsembleRegressor, the fastest form that was measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper
from onnx.defs import onnx_opset_version

OPSET, ML_OPSET = min(21, onnx_opset_version()), 3


class Tree(NamedTuple):
    """Nodes of a binary tree as arrays: a row goes left where its feature <= threshold; leaves have left == -1."""

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray


def model(trees: Iterable[Tree], *, width: int, base: float, scale: float, activation: str) -> bytes:
    """ONNX bytes of `activation(scale * (base + sum of leaf values))` for rows of `width` float32 features.

    Args:
        activation: ONNX operator of one input, such as "Sigmoid" or "Exp".

    One tree, which adds 1 above 0.5 and nothing else:

    >>> tree = Tree(*map(np.array, ([0, 0, 0], [0.5, 0.0, 0.0], [1, -1, -1], [2, -1, -1], [0.0, 0.0, 1.0])))
    >>> onnx = model([tree], width=1, base=0, scale=2, activation="Sigmoid")
    >>> import onnxruntime
    >>> session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    >>> session.run(None, {"features": np.array([[0.5], [0.6]], np.float32)})[0].round(3).T
    array([[0.5  , 0.881]], dtype=float32)
    """
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for number, tree in enumerate(trees):
        leaf = tree.left < 0
        size = len(leaf)
        columns["nodes_treeids"] += [number] * size
        columns["nodes_nodeids"] += range(size)
        columns["nodes_featureids"] += np.where(leaf, 0, tree.feature).tolist()
        columns["nodes_values"] += np.where(leaf, 0, _down(tree.threshold)).tolist()
        columns["nodes_modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
        columns["nodes_truenodeids"] += np.where(leaf, 0, tree.left).tolist()
        columns["nodes_falsenodeids"] += np.where(leaf, 0, tree.right).tolist()
        columns["target_treeids"] += [number] * int(leaf.sum())
        columns["target_nodeids"] += np.flatnonzero(leaf).tolist()
        columns["target_weights"] += tree.value[leaf].tolist()
    attributes: dict[str, Any] = columns | {
        "n_targets": 1,
        "target_ids": [0] * len(columns["target_nodeids"]),
        "aggregate_function": "SUM",
        "post_transform": "NONE",
        "base_values": [float(base)],
    }
    ensemble = helper.make_node(
        "TreeEnsembleRegressor", ["features"], ["sum"], domain="ai.onnx.ml", **attributes
    )
    graph = helper.make_graph(
        [
            ensemble,
            helper.make_node("Mul", ["sum", "scale"], ["scaled"]),
            helper.make_node(activation, ["scaled"], ["score"]),
        ],
        "fraud_score",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("scale", TensorProto.FLOAT, [1], [float(scale)])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(deterministic=True)


def staircase(column: int, side: int, edges: np.ndarray, values: np.ndarray) -> Tree:
    """A balanced tree of the steps of one column: row x gets values[k], k being how many edges are <= side * x.

    Args:
        edges: (S,) float32 ascending.
        values: (S + 1,) one value a step; equal neighbours become one leaf.

    >>> tree = staircase(0, -1, np.array([2, 5], np.float32), np.array([0.0, 0.5, 1.0]))
    >>> import onnxruntime
    >>> onnx = model([tree], width=1, base=0, scale=1, activation="Abs")
    >>> session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    >>> session.run(None, {"features": np.array([[-9], [-5], [-4.9], [-2], [3]], np.float32)})[0].T
    array([[1. , 1. , 0.5, 0.5, 0. ]], dtype=float32)
    """
    kept = np.flatnonzero(np.diff(values) != 0)
    edges, values = edges[kept], np.append(values[:1], values[kept + 1])
    nodes: list[tuple[float, int, int, float]] = []  # threshold, left, right, value

    def grow(first: int, last: int) -> int:
        at = len(nodes)
        nodes.append((0.0, -1, -1, float(values[first])))
        if first < last:
            middle = (first + last) // 2  # steps up to it are below edges[middle]
            below, above = grow(first, middle), grow(middle + 1, last)
            edge = edges[middle]
            if side > 0:
                nodes[at] = (float(np.nextafter(edge, np.float32(-np.inf))), below, above, 0.0)
            else:
                nodes[at] = (float(-edge), above, below, 0.0)
        return at

    grow(0, len(edges))
    threshold, left, right, value = (np.array(column) for column in zip(*nodes, strict=True))
    return Tree(np.full(len(nodes), column), threshold, left, right, value)


_COLUMNS = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes", "nodes_truenodeids",
    "nodes_falsenodeids", "target_treeids", "target_nodeids", "target_weights",
)  # fmt: skip


def _down(threshold: np.ndarray) -> np.ndarray:
    """The largest float32 <= threshold: for float32 features both send every row the same way."""
    rounded = threshold.astype(np.float32)
    return np.where(rounded > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)
