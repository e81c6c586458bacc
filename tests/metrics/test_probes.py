import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from vsc.errors import UsageError
from vsc.metrics import class_selectivity, knn_probe, linear_probe

PROBES = [knn_probe, linear_probe]


def blobs(n, seed, apart=1.5):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return np.eye(3, 5)[y] * apart + rng.normal(size=(n, 5)), y


def test_they_are_those_of_scikit_learn():
    (train_z, train_y), (z, y) = blobs(200, 0), blobs(300, 1)
    expected = KNeighborsClassifier(5).fit(train_z, train_y).score(z, y)
    assert knn_probe(train_z, train_y, z, y, [200]) == {200: expected}
    scaler = StandardScaler().fit(train_z)
    regression = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(train_z), train_y)
    expected = regression.score(scaler.transform(z), y)
    assert linear_probe(train_z, train_y, z, y, [200])[200] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("probe", PROBES)
def test_more_labels_than_there_are(probe):
    (train_z, train_y), (z, y) = blobs(60, 0, 20), blobs(30, 1, 20)
    assert probe(train_z, train_y, z, y, [60, 999]) == {60: 1, 999: 1}
    assert probe(train_z, np.array(list("abc"))[train_y], z, np.array(list("abc"))[y], [60]) == {60: 1}


@pytest.mark.parametrize("probe", PROBES)
def test_a_single_class_and_all_zero_codes(probe):
    z, y = blobs(30, 0)
    assert probe(z, np.ones(30), z, y) == {n: pytest.approx(1 / 3) for n in (100, 1000, 5000)}
    assert probe(z[:1], [7], z, y, [100]) == {100: 0}
    assert 0 <= probe(0 * z, y, 0 * z, y, [30])[30] <= 0.5


@pytest.mark.parametrize("probe", PROBES)
def test_bad_input(probe):
    z, y = blobs(30, 0)
    for args, words in [
        ((z, y[:9], z, y), "training labels"),
        ((z, y, z, y[:9]), "labels"),
        ((z[:, :2], y, z, y), "2 latents"),
        ((z, y, z, y, [0]), "at least 1 label"),
        ((z * np.nan, y, z, y), "NaN"),
    ]:
        with pytest.raises(UsageError, match=words):
            probe(*args)
    with pytest.raises(UsageError, match="k must"):
        knn_probe(z, y, z, y, k=0)
    with pytest.raises(UsageError, match="C must"):
        linear_probe(z, y, z, y, C=0)


def test_class_selectivity_by_hand():
    y = np.repeat([0, 1, 2], 4)
    z = np.stack([y == 1, np.ones(12), np.zeros(12), -3.0 * (y == 0) - (y == 1)], 1)
    # the last: activities 3, 1, 0; (3 - .5) / (3 + .5)
    assert class_selectivity(z, y) == pytest.approx([1, 0, 0, 2.5 / 3.5])
    assert class_selectivity(z * [5, 1, 1, -2], y) == pytest.approx(class_selectivity(z, y))
    assert class_selectivity(z, np.zeros(12)).tolist() == [0] * 4
