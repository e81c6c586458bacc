"""Latents over a split, against counting by hand: rates, costs, classes, extremes and companions."""

import numpy as np
import pytest
import torch

from vsc.measure.latents import Survey, by_class, extremes, survey, together
from vsc.model import AE, VAE, VSC, Codes
from vsc.model.nets import mlp
from vsc.model.priors import FixedGates, SpikeSlabPrior

N, M, J = 40, 6, 5


def network(kind, shape, latent_dim, hidden=(), **options):
    """Build a model with fully connected nets."""
    nets = mlp(shape, kind.features * latent_dim, latent_dim, 1, hidden)
    return kind(*nets, shape=shape, latent_dim=latent_dim, **options)


def made(value, gated=True):
    """Return the survey of given hard codes; every latent is shown, in its order."""
    value = np.asarray(value, np.float32)
    on = value != 0 if gated else np.ones_like(value, bool)
    zero = np.zeros(value.shape[1])
    return Survey(
        gated=gated,
        on=on,
        value=value,
        rate=on.mean(0),
        size=zero,
        variance=value.var(0),
        low=zero,
        high=zero,
        rest=zero if gated else value.mean(0),
        kl=None,
        shown=np.arange(value.shape[1]),
    )


@pytest.fixture
def codes():
    """Return codes of five latents: often on, never, on once in forty, always, and on for half."""
    rng = np.random.default_rng(0)
    on = np.zeros((N, J), bool)
    on[:30, 0], on[0, 2], on[:, 3], on[::2, 4] = True, True, True, True
    gamma = torch.from_numpy(np.where(on, 0.9, 0.1).astype(np.float32))
    mu = torch.from_numpy(rng.normal(size=(N, J)).astype(np.float32))
    return Codes(gamma * mu, gamma, mu)


def test_each_number_is_what_counting_gives(codes):
    found = survey(network(VSC, (M,), J, hidden=(4,)), torch.rand(N, M), codes)
    assert found.gated
    np.testing.assert_allclose(found.rate, [0.75, 0, 0.025, 1, 0.5])
    assert found.shown.tolist() == [3, 0, 4, 2]  # 1 is never on
    own = sorted(codes.mu[:30, 0].tolist())
    assert found.size[0] == pytest.approx(np.mean(np.abs(own)), rel=1e-5)
    place = 0.05 * 29  # linear between the second and the third of thirty
    assert found.low[0] == pytest.approx(own[1] + (place - 1) * (own[2] - own[1]), rel=1e-5)
    assert (found.low[1], found.high[1], found.size[1]) == (0, 0, 0)
    assert not found.rest.any()
    np.testing.assert_allclose(found.variance, np.var(codes.z.numpy().astype(float), 0), rtol=1e-5)


def test_what_the_latents_cost_is_the_kl_of_the_bound():
    model, x = network(VSC, (M,), J, hidden=(4,)).eval(), torch.rand(N, M)
    found = survey(model, x, model.encode(x), batch_size=7)
    with torch.no_grad():
        bound = model(x)
    assert found.kl.shape == (J,)
    assert found.kl.sum() == pytest.approx((bound.kl_slab + bound.kl_spike).mean().item(), rel=1e-5)


def test_without_gates_the_variance_says_which_latents_are_used():
    x = torch.rand(N, M)
    mu = torch.randn(N, 4) * torch.tensor([0.05, 1.0, 0.0, 2.0])
    codes = Codes(mu, torch.ones(N, 4), mu)
    assert survey(network(VAE, (M,), 4, hidden=(3,)), x, codes).shown.tolist() == [
        3,
        1,
    ]  # variance 0.0025 is below 0.01
    small = Codes(0.01 * mu, codes.gamma, 0.01 * mu)
    assert survey(network(VAE, (M,), 4, hidden=(3,)), x, small).shown.tolist() == []
    found = survey(network(AE, (M,), 4, hidden=(3,)), x, small)
    assert found.shown.tolist() == [3, 1]  # an AE's code has no scale of its own
    assert found.kl is None
    np.testing.assert_allclose(found.rest, 0.01 * mu.mean(0), rtol=1e-5)
    assert not survey(network(VSC, (M,), 4, hidden=(3,), prior=SpikeSlabPrior(FixedGates(4, 1.0))), x, codes).gated


def test_rates_by_class_are_counted():
    value, y = [[1, 0], [2, 0], [0, 3], [0, 0], [-1, 4]], np.array([0, 0, 0, 2, 2])
    table = by_class(made(value), y, 3)
    np.testing.assert_allclose(table[[0, 2]], [[2 / 3, 1 / 3], [1 / 2, 1 / 2]])
    assert np.isnan(table[1]).all()


def test_without_gates_classes_have_means_in_standard_deviations():
    value, y = np.array([[1.0], [3.0], [5.0], [7.0]]), np.array([0, 0, 1, 1])
    sd = np.sqrt(5)
    np.testing.assert_allclose(by_class(made(value, gated=False), y, 2), [[-2 / sd], [2 / sd]], rtol=1e-6)


@pytest.mark.parametrize("gated", [True, False])
def test_extremes_by_brute_force(gated):
    rng = np.random.default_rng(1)
    value = rng.normal(size=(12, 3)) * (rng.random((12, 3)) < (0.5 if gated else 1))
    found = made(value, gated)
    ends = extremes(found, most=4)
    for k in range(3):
        rest = 0 if gated else value[:, k].mean()
        above = sorted((i for i in range(12) if value[i, k] > rest), key=lambda i: -value[i, k])
        below = sorted((i for i in range(12) if value[i, k] < rest), key=lambda i: value[i, k])
        assert [i for i in ends.highest[k] if i >= 0] == above[:4]
        assert [i for i in ends.lowest[k] if i >= 0] == below[:4]
    few = extremes(made([[0.0], [2.0], [-1.0]]), most=3)
    assert (few.highest.tolist(), few.lowest.tolist()) == ([[1, -1, -1]], [[2, -1, -1]])


def test_companions_are_counted():
    value = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1]])
    pairs = together(made(value))
    np.testing.assert_allclose(pairs.given, [[1, 2 / 3, 1], [2 / 3, 1, 1], [1 / 2, 1 / 2, 1]])
    np.testing.assert_allclose(pairs.correlation[0, 1], np.corrcoef(value[:, 0], value[:, 1])[0, 1])
    assert pairs.correlation[0, 2] == 0  # what is always on goes with nothing


def test_without_gates_companions_vary_together():
    value = np.random.default_rng(2).normal(size=(30, 3))
    pairs = together(made(value, gated=False))
    assert pairs.given is None
    np.testing.assert_allclose(pairs.correlation, np.corrcoef(value.T), atol=1e-6)
