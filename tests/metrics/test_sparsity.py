import numpy as np
import pytest

from vsc.errors import UsageError
from vsc.metrics import active_units, activity_histogram, hoyer, l0, posterior_collapse, usage


def test_hoyer_by_hand():
    assert hoyer(np.eye(4)) == pytest.approx(1)
    assert hoyer(np.array([[1.0, -1.0, 1.0, -1.0]]), normalise=False) == pytest.approx(0)
    assert hoyer(np.array([[3.0, 4.0, 0.0, 0.0]]), normalise=False) == pytest.approx((2 - 7 / 5) / 1)


def test_hoyer_without_a_direction():
    assert hoyer(np.zeros((5, 3))) == 0
    assert hoyer(np.ones((5, 1))) == 0
    assert hoyer(np.concatenate([np.eye(4), np.zeros((9, 4))]), normalise=False) == pytest.approx(1)


def test_hoyer_does_not_depend_on_scale():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(100, 5)) * (rng.random((100, 5)) < 0.4)
    z[:, 4] = 2.0
    scale = np.array([1, -10, 1e-5, 1e8, 7])
    assert hoyer(z * scale) == pytest.approx(hoyer(z))
    assert hoyer(z * 1e-170, normalise=False) == pytest.approx(hoyer(z, normalise=False))


def test_l0_and_usage():
    gamma = np.zeros((1000, 5))
    gamma[:, 0] = 1
    gamma[:500, 1] = 0.8
    gamma[:10, 2] = 0.9  # on 1 %: not more than that
    gamma[:11, 3] = 0.9
    assert l0(gamma) == pytest.approx((1000 + 400 + 9 + 9.9) / 1000)
    assert usage(gamma) == (3, 1, 1)
    assert usage(np.full((9, 4), 0.5)) == (0, 0, 4)


def test_activity_histogram():
    on = np.arange(10)[:, None] < [0, 1, 3, 9, 10, 10]
    assert activity_histogram(on).tolist() == [1, 1, 0, 1, 0, 0, 0, 0, 0, 3]
    assert activity_histogram(on, bins=2).tolist() == [3, 3]
    with pytest.raises(UsageError, match="bins"):
        activity_histogram(on, 0)


def test_active_units():
    line = np.linspace(-1, 1, 101)[:, None]
    assert active_units(line * [1, 0.2, 0.15, 0]) == 2  # variances .34, .0136, .0077, 0


def test_posterior_collapse():
    line = np.linspace(-1, 1, 100)
    on = (line > 0) * 1.0
    gamma = np.stack([np.ones(100), np.ones(100), on, np.full(100, 0.5), np.zeros(100), np.full(100, 1e-6)], 1)
    mu = np.stack([line, np.ones(100), np.ones(100), np.zeros(100), line, line], 1)
    # collapsed: a constant, a coin toss, and two that are off; not: a line, and a spike of one value
    assert posterior_collapse(gamma, mu) == pytest.approx(4 / 6)
    with pytest.raises(UsageError, match="same shape"):
        posterior_collapse(gamma, mu[:, :2])
