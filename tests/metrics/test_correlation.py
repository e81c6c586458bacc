import numpy as np
import pytest
from scipy.stats import spearmanr

from vsc.errors import UsageError
from vsc.metrics import correlations, mcc, row_max_correlation


def test_a_perfect_a_permuted_and_a_turned_code(plane, turned):
    assert correlations(plane, plane) == pytest.approx(np.eye(2), abs=1e-12)
    assert mcc(plane, plane) == pytest.approx(1)
    assert mcc(-3 * plane[:, ::-1] + 1, plane) == pytest.approx(1)
    assert correlations(turned, plane) == pytest.approx(np.sqrt(0.5))
    assert mcc(turned, plane) == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_agreement_with_numpy_and_scipy(kind):
    rng = np.random.default_rng(0)
    z, v = rng.normal(size=(300, 5)) * (rng.random((300, 5)) < 0.5), rng.normal(size=(300, 4))
    v += z[:, :4] ** 3
    both = np.corrcoef(v.T, z.T) if kind == "pearson" else spearmanr(v, z).statistic
    assert correlations(z, v, kind) == pytest.approx(np.abs(both[:4, 4:]))


def test_two_factors_cannot_share_a_latent(plane):
    z = plane.sum(1, keepdims=True)  # knows both alike
    assert row_max_correlation(z, plane, magnitudes=False) == pytest.approx(np.sqrt(0.5))
    assert mcc(z, plane) == pytest.approx(np.sqrt(0.5) / 2)


def test_constant_and_dead_latents_count_nothing(plane):
    z = np.concatenate([np.zeros((1600, 3)), plane, np.full((1600, 2), 0.1)], 1)
    assert not correlations(z, plane)[:, [0, 1, 2, 5, 6]].any()
    assert mcc(z, plane) == pytest.approx(1)
    for constant in (np.zeros((1600, 4)), np.full((1600, 1), 0.1)):
        assert mcc(constant, plane) == row_max_correlation(constant, plane) == 0


def test_spearman_sees_monotone_codes(plane):
    assert mcc(np.exp(plane), plane, "spearman") == pytest.approx(1)
    assert mcc(np.exp(plane), plane) < 0.9


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_presence_alone_scores_68_percent_on_magnitudes(p):
    """Correlation of S with |v S|: sqrt(1 - p) sqrt(2/pi) / sqrt(1 - 2p/pi), whatever the standard deviation."""
    rng = np.random.default_rng(0)
    S = rng.random(400_000) < p
    expected = np.sqrt(1 - p) * np.sqrt(2 / np.pi) / np.sqrt(1 - 2 * p / np.pi)
    found = row_max_correlation(S[:, None], (S * rng.normal(0, 0.5, len(S)))[:, None])
    assert found == pytest.approx(expected, abs=0.004)
    assert p != 0.5 or round(expected, 2) == 0.68


def test_presence_alone_on_smiley(faces):
    assert row_max_correlation(faces.presence, faces.seen) == pytest.approx(0.683, abs=0.01)
    assert row_max_correlation(faces.presence, faces.seen, magnitudes=False) < 0.03
    # one factor per attribute gets its spike
    assert mcc(faces.presence, faces.seen, magnitudes=True) == pytest.approx(4 * 0.683 / 18, abs=0.005)
    assert mcc(faces.presence, faces.seen) < 0.02
    assert row_max_correlation(faces.seen, faces.seen) == pytest.approx(1)


def test_unknown_kind():
    with pytest.raises(UsageError, match="did you mean 'pearson'"):
        mcc(np.ones((3, 1)), np.ones((3, 1)), "pearsen")
