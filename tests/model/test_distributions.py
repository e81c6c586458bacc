"""Spike-and-slabs: densities, moments and divergences against closed forms, limits and Monte Carlo."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import Bernoulli, Laplace, Normal, kl_divergence

from vsc.model.distributions import SpikeAndSlab, ThresholdedLaplace
from vsc.model.divergences import bernoulli_kl, kl_parts, laplace_kl, normal_kl


def random_q(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mu, logvar, logits = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    return SpikeAndSlab(mu, logvar, spike_logits=1.5 * logits)


def scalar(mu=0.7, logvar=-0.4, gamma=0.3, **options):
    mu, logvar, gamma = (torch.tensor([v], dtype=torch.float64) for v in (mu, logvar, gamma))
    return SpikeAndSlab(mu, logvar, gamma=gamma, **options)


def within(draws, expected, errors=4):
    """Whether a Monte Carlo mean over the first axis lies within so many standard errors."""
    draws = np.asarray(draws)
    standard_error = draws.std(0, ddof=1) / math.sqrt(len(draws))
    return bool(np.all(np.abs(draws.mean(0) - np.asarray(expected)) <= errors * standard_error))


def numpy_log_density(z, q):
    """ln q(z) with respect to delta_0 + Lebesgue, from scipy alone."""
    gamma = 1 / (1 + np.exp(-q.spike_logits.numpy()))
    slab = stats.norm.logpdf(z, q.mu.numpy(), np.exp(0.5 * q.logvar.numpy()))
    return np.where(z == 0, np.log1p(-gamma), np.log(gamma) + slab)


@pytest.mark.parametrize("seed", range(5))
def test_kl_is_the_mean_log_ratio(seed):
    q, p = random_q(6, seed=seed), random_q(6, seed=100 + seed)
    rng = np.random.default_rng(seed)
    gamma = 1 / (1 + np.exp(-q.spike_logits.numpy()))
    slab = q.mu.numpy() + np.exp(0.5 * q.logvar.numpy()) * rng.standard_normal((40_000, 6))
    z = np.where(rng.random((40_000, 6)) < gamma, slab, 0.0)
    assert within(numpy_log_density(z, q) - numpy_log_density(z, p), kl_divergence(q, p))


def test_own_sampler_and_density_agree_with_the_kl():
    q, p = random_q(4, seed=3), random_q(4, seed=4)
    z = q.sample((40_000,))
    assert within(q.log_prob(z) - p.log_prob(z), kl_divergence(q, p))


def test_open_gates_give_the_gaussian_kl():
    q, p = random_q(5, 3, seed=1), random_q(5, 3, seed=2)
    open_q = SpikeAndSlab(q.mu, q.logvar, gamma=torch.ones(5, 3, dtype=torch.float64))
    open_p = SpikeAndSlab(p.mu, p.logvar, spike_logits=torch.full((5, 3), math.inf, dtype=torch.float64))
    expected = kl_divergence(Normal(q.mu, (q.logvar / 2).exp()), Normal(p.mu, (p.logvar / 2).exp())).sum(-1)
    torch.testing.assert_close(kl_divergence(open_q, open_p).sum(-1), expected)
    torch.testing.assert_close(kl_parts(open_q, open_p).spike.sum(-1), torch.zeros(5, dtype=torch.float64))


def test_shut_gates_leave_only_the_atom():
    for spikes in ({"gamma": torch.zeros(4)}, {"spike_logits": torch.full((4,), -math.inf)}):
        q = SpikeAndSlab(torch.randn(4), torch.randn(4), **spikes)
        pi = torch.tensor([0.1, 0.5, 0.9, 0.0])
        p = SpikeAndSlab(torch.randn(4), torch.randn(4), gamma=pi)
        torch.testing.assert_close(kl_divergence(q, p), -torch.log1p(-pi))
        assert (q.sample((100,)) == 0).all()


def test_kl_to_itself_is_zero():
    q = random_q(50)
    torch.testing.assert_close(kl_divergence(q, q), torch.zeros(50, dtype=torch.float64), atol=1e-12, rtol=0)
    for gamma in (0.0, 1.0):
        certain = scalar(gamma=gamma)
        assert kl_divergence(certain, certain).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("q_gamma", "p_gamma"), [(0.5, 0.0), (1.0, 0.0), (0.5, 1.0), (0.0, 1.0), (1e-12, 0.0)])
def test_kl_is_infinite_where_the_prior_forbids(q_gamma, p_gamma):
    assert kl_divergence(scalar(gamma=q_gamma), scalar(gamma=p_gamma)).item() == math.inf


def test_kl_never_negative():
    q, p = random_q(2000, seed=7), random_q(2000, seed=8)
    slab, spike = kl_parts(q, p)
    assert slab.min() >= 0
    assert spike.min() >= 0


def test_bernoulli_kl_equals_torchs_and_its_tails():
    l, p = 3 * torch.randn(2, 1000, dtype=torch.float64)  # noqa: E741
    expected = kl_divergence(Bernoulli(logits=l), Bernoulli(logits=p))
    torch.testing.assert_close(bernoulli_kl(l, p), expected, rtol=1e-8, atol=1e-12)
    # ln 1 / S(-50), by hand
    high, low = torch.tensor(50.0, dtype=torch.float64), torch.tensor(-50.0, dtype=torch.float64)
    assert bernoulli_kl(high, low).item() == pytest.approx(50, rel=1e-12)
    assert bernoulli_kl(low, high).item() == pytest.approx(50, rel=1e-12)


def test_normal_kl_equals_torchs():
    mu, logvar = torch.randn(2, 100, dtype=torch.float64)
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(normal_kl(mu, logvar), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_for_extreme_logits(dtype):
    ends = torch.tensor([-50.0, -1.0, 0.0, 1.0, 50.0], dtype=dtype)
    q_logits, p_logits = (t.flatten().clone().requires_grad_() for t in torch.meshgrid(ends, ends, indexing="ij"))
    mu, logvar = torch.randn(2, 25, dtype=dtype).requires_grad_()
    q = SpikeAndSlab(mu, logvar, spike_logits=q_logits)
    p = SpikeAndSlab(torch.zeros(25, dtype=dtype), torch.zeros(25, dtype=dtype), spike_logits=p_logits)
    kl = kl_divergence(q, p)
    assert torch.isfinite(kl).all()
    for gradient in torch.autograd.grad(kl.sum(), (mu, logvar, q_logits, p_logits)):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("logit", [-math.inf, math.inf])
def test_gradients_are_finite_for_certain_gates(logit):
    leaves = [torch.randn(3), torch.randn(3), torch.full((3,), logit), torch.randn(3)]
    mu, logvar, logits, prior = (t.requires_grad_() for t in leaves)
    q = SpikeAndSlab(mu, logvar, spike_logits=logits)
    kl = kl_divergence(q, SpikeAndSlab(torch.zeros(3), torch.zeros(3), spike_logits=prior))
    for gradient in torch.autograd.grad(kl.sum(), (mu, logvar, logits, prior)):
        assert torch.isfinite(gradient).all()


def test_kl_gradient_equals_finite_differences():
    def kl(mu, logvar, logits, m, t, pi):
        return kl_divergence(SpikeAndSlab(mu, logvar, spike_logits=logits), SpikeAndSlab(m, t, spike_logits=pi))

    leaves = [torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(6)]
    assert torch.autograd.gradcheck(kl, leaves)


def test_log_prob_is_the_atom_at_zero_and_the_slab_elsewhere():
    q = scalar(mu=0.7, logvar=-0.4, gamma=0.3)
    z = torch.tensor([[0.0], [0.5], [-2.0]], dtype=torch.float64)
    slab = stats.norm(0.7, math.exp(-0.2))
    expected = [math.log(0.7), math.log(0.3) + slab.logpdf(0.5), math.log(0.3) + slab.logpdf(-2.0)]
    np.testing.assert_allclose(q.log_prob(z).flatten().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.05, 0.5, 1.0])
def test_density_and_atom_make_one(gamma):
    q = scalar(gamma=gamma)

    def density(z):
        return q.log_prob(torch.tensor([z], dtype=torch.float64)).exp().item()

    off_zero = integrate.quad(density, -np.inf, 0)[0] + integrate.quad(density, 0, np.inf)[0]
    assert off_zero == pytest.approx(gamma, abs=1e-7)
    assert off_zero + density(0.0) == pytest.approx(1, abs=1e-7)


def test_samples_are_exactly_zero_with_probability_one_minus_gamma():
    gamma = torch.tensor([0.0, 0.02, 0.5, 0.9, 1.0], dtype=torch.float64)
    z = SpikeAndSlab(torch.ones_like(gamma), torch.zeros_like(gamma), gamma=gamma).sample((20_000,))
    on = (z != 0).double().mean(0)
    assert ((on - gamma).abs() <= 4 * (gamma * (1 - gamma) / 20_000).sqrt()).all()
    assert on[0] == 0
    assert on[-1] == 1


def test_moments():
    q = random_q(6, seed=5)
    z = q.sample((100_000,))
    assert within(z, q.mean)
    assert within((z - q.mean).square(), q.variance)
    torch.testing.assert_close(q.stddev.square(), q.variance)


def test_shapes_follow_torch_distributions():
    q = random_q(3, 4)
    assert q.batch_shape == (3, 4)
    assert q.event_shape == ()
    assert q.sample((2,)).shape == (2, 3, 4)
    assert q.log_prob(q.sample((2,))).shape == (2, 3, 4)
    assert kl_divergence(q, random_q(4)).shape == (3, 4)


def test_gamma_and_logits_say_the_same():
    gamma = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    by_gamma = SpikeAndSlab(torch.ones_like(gamma), gamma, gamma=gamma)
    by_logits = SpikeAndSlab(torch.ones_like(gamma), gamma, spike_logits=(gamma / (1 - gamma)).log())
    torch.testing.assert_close(by_gamma.spike_logits, by_logits.spike_logits)
    torch.testing.assert_close(by_gamma.gamma, by_logits.gamma)


def test_hard_code_keeps_what_is_more_likely_on_than_off():
    q = SpikeAndSlab(torch.tensor([2.0, 3.0, 4.0]), torch.zeros(3), gamma=torch.tensor([0.49, 0.5, 0.51]))
    assert q.hard.tolist() == [0, 0, 4]
    assert q.active.tolist() == [False, False, True]


def test_exactly_one_of_gamma_and_logits():
    one = torch.ones(1)
    with pytest.raises(ValueError, match="exactly one"):
        SpikeAndSlab(one, one)
    with pytest.raises(ValueError, match="exactly one"):
        SpikeAndSlab(one, one, gamma=one, spike_logits=one)


@pytest.mark.parametrize("bad", [{"gamma": 1.5}, {"gamma": -0.1}, {"mu": math.nan}, {"logvar": math.nan}])
def test_arguments_outside_their_domain(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        scalar(**bad, validate_args=True)


def test_validate_args_checks_the_sample():
    with pytest.raises(ValueError, match="support"):
        scalar(validate_args=True).log_prob(torch.tensor([math.nan], dtype=torch.float64))


def test_slab_draws_are_reparameterised():
    """d z / d mu = 1 and d z / d ln s^2 = (z - mu) / 2 for every draw of mu + s eps."""
    mu, logvar = torch.randn(2, 6, dtype=torch.float64).unbind(0)
    mu.requires_grad_(), logvar.requires_grad_()
    q = SpikeAndSlab(mu, logvar, gamma=torch.zeros(6, dtype=torch.float64))
    z = q.slab((40_000,))
    assert z.shape == (40_000, 6)
    by_mu, by_logvar = torch.autograd.grad(z[0].sum(), (mu, logvar))
    assert by_mu.tolist() == [1] * 6
    torch.testing.assert_close(by_logvar, (z[0] - mu).detach() / 2)
    z = z.detach()
    assert within(z, mu.detach())
    assert within((z - mu.detach()).square(), logvar.detach().exp())


class TestThresholdedLaplace:
    mu = torch.tensor([0.0, 0.7, -1.5], dtype=torch.float64)
    scale = torch.tensor([1.0, 0.4, 2.0], dtype=torch.float64)
    t = torch.tensor([0.5, 1.0, 0.2], dtype=torch.float64)
    n = 100_000

    def q(self):
        return ThresholdedLaplace(self.mu, self.scale.log(), self.t)

    def by_definition(self):
        """Draw z = mu + soft_t(xi) with xi ~ Lap(0, b), and z = 0 where |xi| <= t, by numpy alone."""
        xi = np.random.default_rng(0).laplace(0, self.scale.numpy(), (self.n, 3))
        t = self.t.numpy()
        return np.where(np.abs(xi) > t, self.mu.numpy() + np.sign(xi) * (np.abs(xi) - t), 0.0)

    def test_it_is_a_spike_and_slab(self):
        """Share of zeros, and mean, variance and spread of the rest, of the definition and of the class."""
        q, z = self.q(), self.by_definition()
        assert within(z != 0, q.gamma)
        torch.testing.assert_close(q.gamma, torch.exp(-self.t / self.scale))
        drawn = q.sample((self.n,)).numpy()
        for codes in (z, drawn):
            for j in range(3):
                on = codes[:, j][codes[:, j] != 0]
                mean, b = self.mu[j].item(), self.scale[j].item()
                assert within(on, mean)
                assert within((on - mean) ** 2, 2 * b**2)
                assert within(np.abs(on - mean), b)
        assert within(drawn != 0, q.gamma)
        assert within(q.slab((self.n,)).numpy(), self.mu)

    def test_mean_is_that_of_the_draws(self):
        assert within(self.by_definition(), self.q().mean)

    def test_log_prob_is_the_atom_at_zero_and_the_slab_elsewhere(self):
        z = np.array([[0.0, 0.3, -2.0], [1.2, 0.0, 0.0]])
        gamma = np.exp(-self.t.numpy() / self.scale.numpy())
        slab = stats.laplace.logpdf(z, self.mu.numpy(), self.scale.numpy())
        expected = np.where(z == 0, np.log1p(-gamma), np.log(gamma) + slab)
        np.testing.assert_allclose(self.q().log_prob(torch.as_tensor(z)).numpy(), expected, rtol=1e-12)

    def test_kl_is_the_mean_log_ratio(self):
        """gamma KL(Lap || Lap(0, 1)) + KL of the gates, with other thresholds in the prior."""
        q = self.q()
        p = ThresholdedLaplace(torch.zeros_like(self.mu), torch.zeros_like(self.mu), self.t + 0.3)
        z = torch.as_tensor(self.by_definition())
        kl = q.gamma * laplace_kl(q.mu, q.logscale) + bernoulli_kl(q.spike_logits, p.spike_logits)
        assert within(q.log_prob(z) - p.log_prob(z), kl)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_finite_where_threshold_and_scale_are_far_apart(self, dtype):
        logs = torch.tensor([-800.0, -40.0, -8.0, -3.0, 0.0, 3.0, 10.0, 20.0], dtype=dtype)  # ln of t / b
        logscale, threshold = (-logs).requires_grad_(), torch.ones_like(logs, requires_grad=True)
        q = ThresholdedLaplace(torch.zeros_like(logs), logscale, threshold)
        assert torch.isfinite(q.spike_logits).all()
        assert (q.spike_logits.diff() <= 0).all()
        for gradient in torch.autograd.grad(q.spike_logits.sum(), (logscale, threshold)):
            assert torch.isfinite(gradient).all()
        # logit exp(-r): -ln r for small r, -r for large
        assert q.spike_logits[2].item() == pytest.approx(8, rel=1e-4)
        assert q.spike_logits[6].item() == pytest.approx(-math.exp(10), rel=1e-5)

    def test_gate_falls_with_the_threshold_as_the_formula_says(self):
        """d gamma / d t = -gamma / b, and d gamma / d ln b = gamma t / b."""
        logscale, t = self.scale.log().requires_grad_(), self.t.clone().requires_grad_()
        gamma = ThresholdedLaplace(self.mu, logscale, t).gamma
        by_t, by_logscale = torch.autograd.grad(gamma.sum(), (t, logscale))
        gamma = gamma.detach()
        torch.testing.assert_close(by_t, -gamma / self.scale)
        torch.testing.assert_close(by_logscale, gamma * self.t / self.scale)


def test_laplace_kl_equals_torchs():
    mu, logscale = torch.randn(2, 100, dtype=torch.float64)
    mu[0] = 0
    expected = kl_divergence(Laplace(mu, logscale.exp()), Laplace(0.0, 1.0))
    torch.testing.assert_close(laplace_kl(mu, logscale), expected)
    assert (laplace_kl(mu, logscale) >= 0).all()
    assert laplace_kl(torch.zeros(1), torch.zeros(1)).item() == 0
