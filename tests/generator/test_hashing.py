import numpy as np

from include.generator.hashing import again, hashed, salt, unit


def test_hashes_are_uniform_and_independent_of_one_another():
    index = np.arange(100_000)
    draws = [unit(hashed(salt(7, name), index)) for name in ("a", "b")]
    draws.append(again(hashed(salt(7, "a"), index), 1))
    for draw in draws:
        assert np.abs(np.histogram(draw, 10, (0, 1))[0] - 10_000).max() < 500
    assert np.abs(np.corrcoef(draws) - np.eye(3)).max() < 0.02


def test_every_column_the_purpose_and_the_seed_count():
    a, b = np.array([1, 3]), np.array([2, 5])
    values = [
        hashed(salt(7, "x"), a, b),
        hashed(salt(7, "x"), b, a),
        hashed(salt(7, "y"), a, b),
        hashed(salt(8, "x"), a, b),
    ]
    assert len(np.unique(values)) == 8


def test_a_hash_does_not_depend_on_its_neighbours():
    start = salt(1, "x")
    assert hashed(start, np.array([5, 6, 7]))[1] == hashed(start, np.array([6]))[0]
