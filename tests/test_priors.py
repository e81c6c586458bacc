"""Priors: their divergence is the general one, their samples have their moments."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vsc.distributions import SpikeAndSlab, kl_parts
from vsc.errors import UsageError
from vsc.priors import NormalPrior, SpikeSlabPrior


def prior_as_distribution(J, alpha):
    zero = torch.zeros(J, dtype=torch.float64)
    return SpikeAndSlab(zero, zero, gamma=zero + alpha)


@pytest.mark.parametrize("alpha", [1e-4, 0.01, 0.5, 0.999])
def test_spike_slab_kl_is_the_general_one_summed(alpha):
    mu, logvar, logits = torch.randn(3, 8, 5, dtype=torch.float64)
    q = SpikeAndSlab(mu, logvar, spike_logits=3 * logits)
    slab, spike = SpikeSlabPrior(5, alpha).kl(q)
    expected = kl_parts(q, prior_as_distribution(5, alpha))
    torch.testing.assert_close(slab, expected.slab.sum(-1))
    torch.testing.assert_close(spike, expected.spike.sum(-1))


def test_iclr_equation_nine():
    """The paper's own formula, in numbers."""
    g, mu, s2, a = 0.3, 0.8, 0.25, 0.1
    expected = g / 2 * (mu**2 + s2 - 1 - math.log(s2)) + (1 - g) * math.log((1 - g) / (1 - a)) + g * math.log(g / a)
    q = SpikeAndSlab(*(torch.tensor([[v]], dtype=torch.float64) for v in (mu, math.log(s2), g)))
    assert sum(SpikeSlabPrior(1, a).kl(q)).item() == pytest.approx(expected, rel=1e-12)


def test_open_prior_and_gates_give_the_normal_kl():
    mu, logvar = torch.randn(2, 8, 5, dtype=torch.float64)
    slab, spike = SpikeSlabPrior(5, 1.0).kl(SpikeAndSlab(mu, logvar, gamma=torch.ones_like(mu)))
    torch.testing.assert_close(slab, NormalPrior(5).kl(Normal(mu, (logvar / 2).exp())).slab)
    assert (spike == 0).all()


def test_normal_kl_is_torchs_summed():
    q = Normal(torch.randn(8, 5, dtype=torch.float64), torch.rand(8, 5, dtype=torch.float64) + 0.1)
    slab, spike = NormalPrior(5).kl(q)
    torch.testing.assert_close(slab, kl_divergence(q, Normal(0.0, 1.0)).sum(-1))
    assert spike.tolist() == [0] * 8


def test_kl_is_least_where_gamma_is_alpha():
    """At mu = 0, s = 1 the divergence vanishes at gamma = alpha, and its gradient with it."""
    alpha = 0.2
    logits = torch.full((1, 3), math.log(alpha / (1 - alpha)), dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, 3, dtype=torch.float64)
    total = sum(SpikeSlabPrior(3, alpha).kl(SpikeAndSlab(zero, zero, spike_logits=logits)))
    assert total.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(total.sum(), logits)[0].abs().max() < 1e-12


@pytest.mark.parametrize("logit", [-50.0, 50.0])
def test_gradients_are_finite_at_extreme_logits(logit):
    logits = torch.full((2, 3), logit, requires_grad=True)
    kl = SpikeSlabPrior(3, 0.01).kl(SpikeAndSlab(torch.zeros(2, 3), torch.zeros(2, 3), spike_logits=logits))
    assert torch.isfinite(kl.spike).all()
    assert torch.isfinite(torch.autograd.grad(kl.spike.sum(), logits)[0]).all()


@pytest.mark.parametrize("alpha", [0.01, 0.3, 1.0])
def test_spike_slab_samples(alpha):
    z = SpikeSlabPrior(4, alpha).sample(20_000)
    assert z.shape == (20_000, 4)
    on = (z != 0).double().mean(0)
    assert ((on - alpha).abs() <= 4 * math.sqrt(alpha * (1 - alpha) / 20_000)).all()
    slab = z[z != 0].double()
    assert abs(slab.mean()) <= 4 / math.sqrt(len(slab))
    assert abs(slab.square().mean() - 1) <= 4 * math.sqrt(2 / len(slab))


def test_normal_samples():
    z = NormalPrior(4).sample(20_000)
    assert z.shape == (20_000, 4)
    assert (z.mean(0).abs() <= 4 / math.sqrt(20_000)).all()
    assert ((z.square().mean(0) - 1).abs() <= 4 * math.sqrt(2 / 20_000)).all()


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.1, math.nan])
def test_alpha_is_a_probability_above_zero(alpha):
    with pytest.raises(UsageError, match="alpha"):
        SpikeSlabPrior(3, alpha)
