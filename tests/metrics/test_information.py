import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from vsc.errors import UsageError
from vsc.metrics import discretise, multi_information, mutual_information, spike_information


def test_mutual_information_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 4)) * (rng.random((500, 4)) < 0.5)
    v = np.stack([z[:, 0] + rng.normal(size=500), rng.integers(0, 4, 500), np.ones(500)], 1)
    latent, truth = discretise(z, 20), discretise(v, 20, distinct=64)
    found = mutual_information(z, v)
    expected = [[mutual_info_score(t, c) for c in latent.T] for t in truth.T]
    assert found.information == pytest.approx(np.array(expected), abs=1e-12)
    assert found.entropy == pytest.approx([mutual_info_score(t, t) for t in truth.T], abs=1e-12)


def test_the_spike_alone_tells_one_bit():
    S = np.arange(1000) % 2
    z = S * np.linspace(1, 2, 1000)
    assert mutual_information(z[:, None], S[:, None], bins=20).information.item() == pytest.approx(np.log(2))


def test_spike_information_in_bits():
    half = np.arange(8)[:, None] % 2
    gamma = np.concatenate([half, half * 0.5 + 0.25, np.full((8, 1), 0.5), np.zeros((8, 1)), np.ones((8, 1))], 1)
    quarter = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    assert spike_information(gamma) == pytest.approx([1, 1 - quarter, 0, 0, 0])
    assert np.signbit(spike_information(np.full((7, 3), 0.1))).sum() == 0


def test_gamma_must_be_a_probability():
    with pytest.raises(UsageError, match="probabilities"):
        spike_information(np.array([[1.5]]))


def test_multi_information_by_hand():
    both = np.array([[0, 0], [1, 1]] * 500, float)
    found = multi_information(both)
    assert found.bits == pytest.approx(1)
    assert found.bias < 0.01
    apart = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 250, float)
    assert multi_information(apart).bits == pytest.approx(0, abs=1e-9)
    assert multi_information(np.zeros((10, 3))) == (0, 0)


def test_the_bias_of_multi_information_is_stated():
    """Of 40 independent latents the plug-in claims sum_j H_j - log2 N bits; so does the bias."""
    z = np.random.default_rng(0).normal(size=(500, 40))
    found = multi_information(z)
    assert found.bits > 25
    assert found.bias == pytest.approx(found.bits, rel=0.01)
