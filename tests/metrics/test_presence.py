import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vsc.errors import UsageError
from vsc.metrics import attributes, detectors, mcc, mig, presence_auroc, within_mcc, within_mig

GROUPS = [0, 0, 1]


def test_presence_told_per_factor_is_joined():
    S = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    for groups in (None, [0, 1, 0], ["hat", "eyes", "hat"]):
        joined = attributes(S, groups)
        assert joined.presence.tolist() == S[:, :2].tolist()
        assert joined.groups.tolist() == [0, 1, 0]
    assert joined.names == ("hat", "eyes")
    with pytest.raises(UsageError, match="together"):
        attributes(S, [0, 0, 1])
    with pytest.raises(UsageError, match="missing"):
        attributes(S, [0, 2, 0])
    with pytest.raises(UsageError, match="0 or 1"):
        attributes(S * 0.5)


def test_presence_is_the_area_of_the_best_latent():
    rng = np.random.default_rng(0)
    gamma, S = rng.random((300, 4)), rng.random((300, 2)) < 0.3
    gamma[:, 2] += S[:, 1] * 0.2
    expected = [max(roc_auc_score(s, column) for column in gamma.T) for s in S.T]
    assert presence_auroc(gamma, S) == pytest.approx(expected)


def test_presence_of_perfect_inverted_constant_and_single_class():
    S = np.array([[1, 0, 1], [0, 0, 1]] * 5, bool)
    assert presence_auroc(S[:, :1], S).tolist() == [1, 0.5, 0.5]
    assert presence_auroc(1.0 - S[:, :1], S)[0] == 0  # off where present
    assert presence_auroc(np.ones((10, 7)), S).tolist() == [0.5] * 3
    assert presence_auroc(np.zeros((10, 70)), S).tolist() == [0.5] * 3


def test_presence_alone_scores_nothing_within(faces):
    z = faces.presence.astype(float)
    truth = (faces.V, faces.presence, faces.groups)
    assert presence_auroc(z, faces.presence).tolist() == [1] * 4
    assert within_mcc(z, *truth) < 0.03  # spikes of the other attributes are noise, 1 / sqrt(10 000)
    assert within_mig(z, *truth) < 0.001
    assert mig(z, faces.seen) == pytest.approx(0.37, abs=0.02)  # which is why
    assert within_mcc(faces.V, *truth) == pytest.approx(1)
    assert within_mcc(faces.seen, *truth) == pytest.approx(1)
    assert within_mig(faces.seen, *truth) > 0.98
    assert mig(faces.seen, faces.seen) == pytest.approx(0.63, abs=0.02)


def test_within_scores_are_means_weighted_by_factors():
    rng = np.random.default_rng(0)
    z, v = rng.normal(size=(200, 5)), rng.normal(size=(200, 3))
    S = rng.random((200, 2)) < 0.5
    parts = [(S[:, 0], slice(0, 2)), (S[:, 1], slice(2, 3))]
    for within, whole in ((within_mcc, mcc), (within_mig, mig)):
        hat, eyes = (whole(z[rows], v[rows][:, columns]) for rows, columns in parts)
        assert within(z, v, S, GROUPS) == pytest.approx((2 * hat + eyes) / 3)
        assert within(z, v, S, ["hat", "hat", "eyes"]) == within(z, v, S, GROUPS)
        S_less = S & [True, False]
        assert within(z, v, S_less, GROUPS) == pytest.approx(hat)  # never present: left out
        assert within(z, v, S & False, GROUPS) == 0


def test_values_where_the_attribute_is_absent_do_not_count(faces):
    z = faces.V.copy()
    v = np.where(faces.present, faces.V, 99.0)
    assert within_mcc(z, v, faces.presence, faces.groups) == pytest.approx(1)


def test_shapes_that_do_not_fit():
    z, v = np.ones((4, 2)), np.ones((4, 3))
    with pytest.raises(UsageError, match="3 attributes, but presence has 2"):
        within_mcc(z, v, np.ones((4, 2)), [0, 1, 2])
    with pytest.raises(UsageError, match="presence: 3 rows"):
        within_mig(z, v, np.ones((3, 2)), GROUPS)
    with pytest.raises(UsageError, match="factors: 5 rows"):
        within_mcc(z, np.ones((5, 3)), np.ones((4, 2)), GROUPS)


def test_a_detector_is_told_by_its_area_and_counted_by_its_threshold():
    rng = np.random.default_rng(0)
    gamma, S = rng.random((200, 5)), np.stack([np.arange(200) < 60, np.ones(200, bool)], 1)
    gamma[:, 3] = 0.4 * gamma[:, 3] + 0.55 * S[:, 0]
    found = detectors(gamma, S, gamma > 0.5)
    on = gamma[:, 3] > 0.5
    assert found.latent[0] == 3
    assert found.auroc.tolist() == [roc_auc_score(S[:, 0], gamma[:, 3]), 0.5]
    assert found.hits[0] == pytest.approx(on[:60].mean())
    assert found.alarms[0] == pytest.approx(on[60:].mean())
    assert found.precision[0] == pytest.approx(on[:60].sum() / on.sum())
    assert np.isnan(found.alarms[1]), "nothing is without it"
    assert np.isnan(detectors(gamma, S, np.zeros((200, 5))).precision).all(), "never on"
    assert detectors(gamma, S).hits is None
