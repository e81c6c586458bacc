import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vsc.errors import UsageError
from vsc.metrics import discretise
from vsc.metrics.arrays import auroc, classes, group_index, matrix, standardised


def test_exact_zero_has_a_bin_of_its_own():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1000, 3)) * (rng.random((1000, 3)) < 0.4)
    z[0] = 1e-300  # nearly zero is not zero
    binned = discretise(z, 20)
    assert np.array_equal(binned == 0, z == 0)
    assert binned.max() == 20


def test_bins_are_those_of_numpy():
    x = np.random.default_rng(0).normal(size=(1000, 1))
    expected = np.clip(np.digitize(x, np.histogram(x, 20)[1][:-1]), 1, 20)
    assert np.array_equal(discretise(x, 20), expected)


def test_few_values_keep_their_bins():
    x = np.array([[0.0], [1.0], [1.1], [50.0], [0.0]])
    assert discretise(x, 3).ravel().tolist() == [0, 1, 2, 3, 0]
    assert discretise(x, 2).ravel().tolist() == [0, 1, 1, 2, 0]
    assert discretise(x, 2, distinct=3).ravel().tolist() == [0, 1, 2, 3, 0]


def test_extreme_values_are_binned():
    x = np.linspace(-1, 1, 30)[:, None] * 1.7e308
    assert len(np.unique(discretise(x, 10))) == 10
    assert discretise(np.zeros((3, 2))).max() == 0


@pytest.mark.parametrize(
    "bad",
    [[[np.nan]], [[np.inf]], [1.0], np.zeros((0, 3)), np.zeros((3, 0)), [["a"]], [[1 + 1j]], [[None]]],
    ids=["nan", "infinite", "vector", "no rows", "no columns", "text", "complex", "object"],
)
def test_what_is_no_matrix_is_refused(bad):
    with pytest.raises(UsageError, match="codes"):
        matrix(bad, "codes")


def test_bins_must_be_positive():
    with pytest.raises(UsageError, match="bins"):
        discretise(np.ones((2, 2)), 0)


def test_constants_standardise_to_exact_zero():
    z = np.stack([np.full(999, 0.1), np.zeros(999), np.linspace(0, 1e-200, 999), np.linspace(0, 1e200, 999)], 1)
    found = standardised(z)
    assert not found[:, :2].any()
    assert np.square(found[:, 2:]).sum(0) == pytest.approx(1)


def test_auroc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 9, (200, 4)).astype(float), rng.random((200, 3)) < [0.1, 0.5, 0.9]
    expected = [[roc_auc_score(p, s) for s in scores.T] for p in positive.T]
    assert auroc(scores, positive) == pytest.approx(np.array(expected))


def test_auroc_of_a_single_class_is_chance():
    assert auroc(np.arange(4.0)[:, None], np.array([[True, False]] * 4)).tolist() == [[0.5], [0.5]]


def test_groups_by_number_and_by_name():
    index, names = group_index([1, 1, 0], 3)
    assert (index.tolist(), names) == ([1, 1, 0], ("0", "1"))
    index, names = group_index(["hat", "eyes", "hat"], 3)
    assert (index.tolist(), names) == ([0, 1, 0], ("hat", "eyes"))
    for bad in ([0], [0, -1, 1]):
        with pytest.raises(UsageError, match="groups"):
            group_index(bad, 3)


@pytest.mark.parametrize("bad", [[1, 2], [[1], [2], [3]], [0.0, np.nan, 1.0]])
def test_bad_labels(bad):
    with pytest.raises(UsageError, match="labels"):
        classes(bad, 3)
