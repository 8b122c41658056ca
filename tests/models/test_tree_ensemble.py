"""Trees as an ONNX graph."""

from __future__ import annotations

import numpy as np
import onnxruntime

from include.models.tree_ensemble import Tree, model


def run(trees, X, **fields):
    options = {"width": X.shape[1], "base": 0.0, "scale": 1.0, "activation": "Identity", **fields}
    return onnxruntime.InferenceSession(model(trees, **options)).run(None, {"features": X})[0][:, 0]


def stump(threshold: float, left: float, right: float, feature: int = 0) -> Tree:
    return Tree(
        np.array([feature, 0, 0]), np.array([threshold, 0, 0]), np.array([1, -1, -1]), np.array([2, -1, -1]),
        np.array([0.0, left, right]),
    )  # fmt: skip


def test_sums_leaves_then_scales_and_activates():
    X = np.array([[0, 0], [2, 0], [2, 2]], np.float32)
    trees = [stump(1.0, 10, 20), stump(1.0, 1, 2, feature=1)]
    assert run(trees, X).tolist() == [11, 21, 22]
    assert run(trees, X, base=100, scale=-1).tolist() == [-111, -121, -122]
    np.testing.assert_allclose(
        run(trees, X, scale=-0.1, activation="Exp"), np.exp([-1.1, -2.1, -2.2]), rtol=1e-6
    )


def test_a_threshold_between_two_floats_parts_them_as_in_double_precision():
    """The float32 nearest to 0.1 lies above 0.1, the one nearest to 0.3 too; rounding up would take it along."""
    for threshold in (0.1, 0.3, -0.1, -0.3, 1e-12):
        X = np.array([[threshold]], np.float32)
        X = np.concatenate([np.nextafter(X, np.float32(-9)), X, np.nextafter(X, np.float32(9))])
        expected = np.where(X[:, 0].astype(np.float64) <= threshold, 1.0, 2.0)
        assert run([stump(threshold, 1, 2)], X).tolist() == expected.tolist()


def test_the_threshold_itself_goes_left():
    assert run([stump(0.5, 1, 2)], np.array([[0.5]], np.float32)).tolist() == [1]


def test_a_tree_that_is_one_leaf():
    leaf = Tree(np.array([0]), np.array([0.0]), np.array([-1]), np.array([-1]), np.array([7.0]))
    assert run([leaf], np.zeros((2, 1), np.float32)).tolist() == [7, 7]
