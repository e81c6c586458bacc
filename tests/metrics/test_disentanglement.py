import numpy as np
import pytest
from sklearn.feature_selection import f_regression
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from vsc.metrics import dci, explicitness, factor_vae, mig, modularity, sap


def padded(z, columns):
    return np.concatenate([z, np.zeros((len(z), columns))], 1)


def test_mig(plane, turned):
    assert mig(plane, plane, bins=40) == pytest.approx(1)  # 40 values keep their bins
    assert mig(-2 * padded(plane, 5)[:, ::-1], plane, bins=40) == pytest.approx(1)
    assert mig(np.repeat(plane, 2, 1), plane) == pytest.approx(0, abs=1e-12)  # each factor twice
    assert mig(turned, plane) == pytest.approx(0, abs=0.01)
    assert mig(plane[:, :1], plane, bins=40) == pytest.approx(0.5)  # one factor has no latent


def test_mig_by_hand():
    """A latent that knows one bit of a factor of two bits, and one that knows nothing."""
    v = np.repeat([[1.0], [2.0], [3.0], [4.0]], 10, 0)
    z = np.stack([np.where(v[:, 0] > 2, 0.0, 1.0), np.ones(40)], 1)
    assert mig(z, v) == pytest.approx(0.5)


def test_sap(plane, turned):
    assert sap(plane, plane) == pytest.approx(1)
    assert sap(padded(plane, 3)[:, ::-1] * [1, 2, 3, -4, 5] + 1, plane) == pytest.approx(1)
    assert sap(turned, plane) == pytest.approx(0, abs=1e-12)


def test_sap_agrees_with_the_f_statistic():
    """R^2 = F / (F + N - 2)."""
    rng = np.random.default_rng(0)
    z, v = rng.normal(size=(100, 4)), rng.normal(size=(100, 3))
    v += z[:, :3] @ rng.normal(size=(3, 3))
    F = np.array([f_regression(z, column)[0] for column in v.T])
    ordered = np.sort(F / (F + 98), 1)
    assert sap(z, v) == pytest.approx((ordered[:, -1] - ordered[:, -2]).mean())


def test_modularity(plane, turned):
    assert modularity(plane, plane) == pytest.approx(1)
    assert modularity(np.repeat(plane, 3, 1), plane) == pytest.approx(1)  # one factor each is all it asks
    assert modularity(turned, plane) == pytest.approx(0, abs=0.01)
    assert modularity(padded(plane, 2), plane) == pytest.approx(0.5)  # dead latents count 0
    assert modularity(plane, plane[:, :1]) == pytest.approx(0.5)


def test_explicitness(plane, turned):
    assert explicitness(plane, plane + 1e-6 * turned) > 0.99  # of more than 64 values: continuous
    v = (plane > 0) + 1.0
    assert explicitness(turned, v) > 0.99
    assert explicitness(padded(plane, 4), v) > 0.99
    noise = np.random.default_rng(0).normal(size=(1600, 3))
    assert explicitness(noise, v) == pytest.approx(0.5, abs=0.05)


def test_explicitness_is_that_of_ridge_classifiers():
    rng = np.random.default_rng(0)
    v = rng.integers(0, 3, (400, 1)).astype(float)
    z = np.eye(3)[v[:, 0].astype(int)] @ rng.normal(size=(3, 5)) + rng.normal(size=(400, 5))
    order = np.random.default_rng(3).permutation(400)
    train, test = order[:200], order[200:]
    X = StandardScaler().fit_transform(z)
    areas = []
    for c in range(3):
        ridge = RidgeClassifier(1.0).fit(X[train], v[train, 0] == c)
        areas.append(roc_auc_score(v[test, 0] == c, ridge.decision_function(X[test])))
    assert explicitness(z, v, seed=3) == pytest.approx(np.mean(areas))


def test_dci(plane, turned):
    assert dci(plane, plane) == pytest.approx((1, 1, 1), abs=0.02)
    assert dci(padded(plane, 2)[:, ::-1] * 3, plane) == pytest.approx((1, 1, 1), abs=0.02)
    mixed = dci(turned, plane)
    assert mixed.disentanglement < 0.1
    assert mixed.completeness < 0.1
    assert mixed.informativeness > 0.9
    twice = dci(np.repeat(plane, 2, 1), plane)  # trees split the importance between equals
    assert twice.disentanglement > 0.98
    assert twice.completeness < 0.9
    noise = dci(np.random.default_rng(0).normal(size=plane.shape), plane)
    assert noise.informativeness == 0


def test_factor_vae(plane, turned):
    assert factor_vae(plane, plane) > 0.99
    assert factor_vae(padded(plane, 2)[:, ::-1] * -3, plane) > 0.99
    assert factor_vae(turned, plane) == pytest.approx(0.5, abs=0.05)
    assert factor_vae(np.ones((1600, 2)), plane) == 0


def test_factor_vae_among_examples_with_the_attribute(faces):
    assert factor_vae(faces.seen, faces.seen, faces.present) > 0.97
    alone = factor_vae(faces.presence, faces.seen, faces.present)
    assert alone == pytest.approx(4 / 18, abs=0.03)  # its attribute, and a guess of the factor


def test_a_latent_that_is_hardly_ever_on_does_not_vote(plane):
    """It would be zero in all of a batch by chance, stand still, and win every vote."""
    rare = (np.arange(1600) % 50 == 0)[:, None] * 1.0
    assert factor_vae(np.concatenate([rare, plane], 1), plane) > 0.99


def test_few_examples_and_many_latents():
    rng = np.random.default_rng(0)
    for N in (1, 2, 5):
        z, v = rng.normal(size=(N, 30)), rng.normal(size=(N, 2))
        for score in (mig, sap, modularity, explicitness, factor_vae):
            assert 0 <= score(z, v) <= 1
        assert all(0 <= part <= 1 for part in dci(z, v))
