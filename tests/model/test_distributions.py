"""Spike-and-slabs: densities, moments and divergences against closed forms, limits and Monte Carlo."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import Bernoulli, Independent, Laplace, Normal, kl_divergence

from vsc.model import Codes
from vsc.model.distributions import SpikeAndSlab
from vsc.model.divergences import bernoulli_kl, kl_parts, laplace_kl, summed_kl
from vsc.model.thresholded import ThresholdedLaplace, ThresholdedNormal


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


@pytest.mark.parametrize("seed", range(2))
def test_kl_is_the_mean_log_ratio(seed):
    q, p = random_q(6, seed=seed), random_q(6, seed=100 + seed)
    rng = np.random.default_rng(seed)
    gamma = 1 / (1 + np.exp(-q.spike_logits.numpy()))
    slab = q.mu.numpy() + np.exp(0.5 * q.logvar.numpy()) * rng.standard_normal((40_000, 6))
    z = np.where(rng.random((40_000, 6)) < gamma, slab, 0.0)
    assert within(numpy_log_density(z, q) - numpy_log_density(z, p), kl_divergence(q, p))


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


KINDS = {
    "spike-and-slab": lambda *parts: SpikeAndSlab(*parts[:2], spike_logits=parts[2]),
    "thresholded Laplace": lambda *parts: ThresholdedLaplace(*parts[:2], threshold=parts[2]),
    "thresholded Gaussian": lambda *parts: ThresholdedNormal(*parts[:2], threshold=parts[2]),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
class TestAsTorchsOwn:
    def test_numbers_and_shapes_are_broadcast(self, kind):
        scalar = torch.tensor(0.3, dtype=torch.float64)
        q = kind(torch.zeros(4, 1, dtype=torch.float64), 0.5, torch.rand(3, dtype=torch.float64) + 0.1)
        assert q.batch_shape == q.mean.shape == q.sample().shape == q.entropy().shape == (4, 3)
        assert q.log_prob(scalar).shape == (4, 3)

    def test_expanded_and_independent(self, kind):
        q = kind(*(torch.rand(3, dtype=torch.float64) + 0.1 for _ in range(3)))
        wide = q.expand((5, 3))
        z = wide.sample((2,))
        assert type(wide) is type(q)
        assert z.shape == (2, 5, 3)
        torch.testing.assert_close(wide.log_prob(z), q.log_prob(z), rtol=0, atol=0)
        whole = Independent(q, 1)
        torch.testing.assert_close(whole.log_prob(z), q.log_prob(z).sum(-1), rtol=0, atol=0)
        torch.testing.assert_close(whole.entropy(), q.entropy().sum())
        torch.testing.assert_close(whole.expand((5,)).log_prob(z), q.log_prob(z).sum(-1), rtol=0, atol=0)
        torch.testing.assert_close(kl_divergence(whole, whole), torch.zeros((), dtype=torch.float64))
        torch.testing.assert_close(wide[:2].mean, wide.mean[:2], rtol=0, atol=0)

    def test_entropy_is_minus_the_mean_log_density(self, kind):
        q = kind(*(torch.rand(6, dtype=torch.float64) + 0.2 for _ in range(3)))
        assert within(-q.log_prob(q.sample((40_000,))), q.entropy())

    def test_rsample_has_hard_gates_and_the_slabs_gradient(self, kind):
        """d z / d mu is 1 where a gate is open; E z's slope in mu is gamma."""
        mu = torch.full((40_000,), 0.5, dtype=torch.float64, requires_grad=True)
        q = kind(mu, torch.zeros_like(mu), torch.full_like(mu, 0.7))
        z = q.rsample()
        slope = torch.autograd.grad(z.sum(), mu)[0]
        assert torch.equal(slope != 0, z != 0)
        assert within(slope, q.gamma[0].item())
        torch.manual_seed(3)
        drawn = q.sample()
        torch.manual_seed(3)
        assert torch.equal(drawn, q.rsample())
        assert not drawn.requires_grad

    def test_kl_is_registered(self, kind):
        q, p = (kind(*(torch.rand(6, dtype=torch.float64) + 0.2 for _ in range(3))) for _ in range(2))
        z = q.sample((40_000,))
        assert within(q.log_prob(z) - p.log_prob(z), kl_divergence(q, p))


def test_one_definition_of_active():
    """1/2 exactly is not active, and neither is a gamma that no float tells from it."""
    logits = torch.tensor([-1e-9, 0.0, 1e-9, 1e-3])
    q = SpikeAndSlab(torch.ones(4), torch.zeros(4), spike_logits=logits)
    codes = Codes(q.mean, q.gamma, q.mu)
    assert torch.equal(q.hard, codes.hard)
    assert q.active.tolist() == codes.active.tolist() == [False, False, False, True]


MU, LOGVAR, LOGITS = (
    [-1e30, 0.0, 1.0],
    [-1000.0, -100.0, 0.0, 100.0, 1000.0],
    [-math.inf, -1e4, -50.0, 0.5, 1e4, math.inf],
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
class TestExtremes:
    """At log-variances of +-1000 and logits of +-1e4 nothing is NaN, and a finite value has finite gradients."""

    def leaves(self, dtype):
        grid = torch.cartesian_prod(*(torch.tensor(v, dtype=dtype) for v in (MU, LOGVAR, LOGITS)))
        return [column.clone().requires_grad_() for column in grid.unbind(-1)]

    def check(self, value, leaves):
        assert not value.isnan().any()
        finite = torch.isfinite(value)
        for gradient in torch.autograd.grad(value[finite].sum(), leaves, allow_unused=True, retain_graph=True):
            assert gradient is None or torch.isfinite(gradient[finite]).all()
        return finite

    def test_divergences(self, dtype):
        leaves = self.leaves(dtype)
        q = SpikeAndSlab(*leaves[:2], spike_logits=leaves[2])
        for p in [(0.0, 0.0, -2.0), (1.0, -1000.0, 1e4), (0.0, 1000.0, -1e4), (0.0, 0.0, math.inf)]:
            m, logvar, logit = (torch.tensor(part, dtype=dtype) for part in p)
            finite = self.check(kl_divergence(q, SpikeAndSlab(m, logvar, spike_logits=logit)), leaves)
            assert torch.equal(~finite, torch.isinf(logit) & (q.gamma != 1))  # what the prior forbids

    def test_log_densities_and_entropy(self, dtype):
        leaves = self.leaves(dtype)
        q = SpikeAndSlab(*leaves[:2], spike_logits=leaves[2])
        for z in (0.0, 1.0, -1e30):
            self.check(q.log_prob(torch.full_like(leaves[0], z)), leaves)
        assert self.check(q.entropy(), leaves).all()
        t = ThresholdedLaplace(*leaves[:2], torch.ones_like(leaves[0]))
        self.check(t.log_prob(torch.ones_like(leaves[0])), leaves[:2])
        assert self.check(t.entropy(), leaves[:2]).all()

    @pytest.mark.parametrize("gamma", [0.0, 1.0])
    def test_gates_given_as_certain(self, dtype, gamma):
        """The value is that of the certain gate, ln of what the prior gives to it; no gradient is NaN."""
        g, prior = (torch.tensor([v], dtype=dtype, requires_grad=True) for v in (gamma, 0.3))
        mu, logvar = torch.tensor([1.0], dtype=dtype), torch.tensor([0.5], dtype=dtype)
        kl = kl_divergence(SpikeAndSlab(mu, logvar, g), SpikeAndSlab(torch.zeros_like(mu), torch.zeros_like(mu), prior))
        slab = 0.5 * (1 + math.exp(0.5) - 1 - 0.5)
        assert kl.item() == pytest.approx(slab - math.log(0.3) if gamma else -math.log(0.7), rel=1e-6)
        by_gamma, by_prior = torch.autograd.grad(kl.sum(), (g, prior))
        assert by_gamma.item() == pytest.approx(slab, rel=1e-6)  # that of the slab's part
        assert by_prior.item() == pytest.approx(-1 / 0.3 if gamma else 1 / 0.7, rel=1e-5)


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


class TestThresholdedNormal:
    mu = torch.tensor([0.0, 0.7, -1.5, 3.0], dtype=torch.float64)
    scale = torch.tensor([1.0, 0.4, 2.0, 0.5], dtype=torch.float64)
    t = torch.tensor([0.5, 1.0, 0.2, 0.01], dtype=torch.float64)

    def q(self):
        return ThresholdedNormal(self.mu, self.scale.log(), self.t)

    def by_definition(self, n):
        """Draw z = mu + soft_t(xi) with xi ~ N(0, b^2), and z = 0 where |xi| <= t, by numpy alone."""
        xi = np.random.default_rng(0).normal(0, self.scale.numpy(), (n, 4))
        t = self.t.numpy()
        return np.where(np.abs(xi) > t, self.mu.numpy() + np.sign(xi) * (np.abs(xi) - t), 0.0)

    def test_it_is_what_its_definition_draws(self):
        q, z = self.q(), self.by_definition(200_000)
        np.testing.assert_allclose(q.gamma, 2 * stats.norm.sf(self.t / self.scale), rtol=1e-12)
        for codes in (z, q.sample((200_000,)).numpy()):
            assert within(codes != 0, q.gamma)
            assert within(codes, q.mean)
            assert within((codes - q.mean.numpy()) ** 2, q.variance)
            for j in range(4):
                on = codes[:, j][codes[:, j] != 0] - self.mu[j].item()
                assert within(on, 0.0)
                assert within(on**2, q.slab_moments()[0][j])
        # the same distribution, not only the same moments
        assert stats.ks_2samp(z[z[:, 1] != 0, 1], q.slab((20_000,))[:, 1].numpy()).pvalue > 1e-3

    def test_log_prob_is_the_atom_at_zero_and_the_tail_elsewhere(self):
        """The slab is the two tails of xi, each moved to mu; its density has the integral 1."""
        z = np.array([[0.0, 0.3, -2.0, 3.1], [1.2, 0.0, 0.0, 2.0]])
        b, t, mu = self.scale.numpy(), self.t.numpy(), self.mu.numpy()
        tails = stats.norm.logpdf(np.abs(z - mu) + t, 0, b)
        expected = np.where(z == 0, np.log(stats.norm.cdf(t / b) - stats.norm.cdf(-t / b)), tails)
        np.testing.assert_allclose(self.q().log_prob(torch.as_tensor(z)).numpy(), expected, rtol=1e-10)

    def test_kl_is_that_of_gaussians_where_nothing_is_cut_off(self):
        q = ThresholdedNormal(self.mu, self.scale.log(), 1e-9)
        p = ThresholdedNormal(torch.zeros_like(self.mu), 0.0, 1e-9)
        expected = kl_divergence(Normal(self.mu, self.scale), Normal(0.0, 1.0))
        torch.testing.assert_close(kl_divergence(q, p), expected, rtol=1e-4, atol=1e-4)

    def test_kl_by_quadrature(self):
        """With other thresholds and scales in p, and means on either side of its own."""
        q, p = self.q(), ThresholdedNormal(torch.full_like(self.mu, 0.4), 0.3, self.t + 0.3)
        z = torch.linspace(-14, 14, 400_001, dtype=torch.float64)[:, None]
        log_q, log_p = q.slab_log_prob(z), p.slab_log_prob(z)
        slab = torch.trapezoid(log_q.exp() * (log_q - log_p), z, dim=0)
        torch.testing.assert_close(kl_parts(q, p).slab, q.gamma * slab, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_finite_where_threshold_and_scale_are_far_apart(self, dtype):
        logs = torch.tensor([-800.0, -40.0, -8.0, -3.0, 0.0, 2.0, 3.0, 10.0, 80.0], dtype=dtype)  # ln of t / b
        for mean in (0.0, 1e4):
            parts = [torch.full_like(logs, mean), -logs, torch.ones_like(logs)]
            parts = [part.requires_grad_() for part in parts]
            q = ThresholdedNormal(*parts)
            p = ThresholdedNormal(torch.zeros_like(logs), 0.0, parts[2])
            inside = logs.abs() < 40  # beyond, draws and the slab's share may be as large as floats go
            for value in (q.spike_logits, q.variance, q.entropy(), q.rsample(), kl_divergence(q, p)):
                assert torch.isfinite(value[inside]).all()
                for gradient in torch.autograd.grad(value[inside].sum(), parts, retain_graph=True, allow_unused=True):
                    assert gradient is None or torch.isfinite(gradient[inside]).all()
            assert (q.spike_logits.diff() <= 0).all()


def test_laplace_kl_equals_torchs():
    mu, logscale = torch.randn(2, 100, dtype=torch.float64)
    mu[0] = 0
    expected = kl_divergence(Laplace(mu, logscale.exp()), Laplace(0.0, 1.0))
    torch.testing.assert_close(laplace_kl(mu, logscale), expected)
    assert (laplace_kl(mu, logscale) >= 0).all()
    assert laplace_kl(torch.zeros(1), torch.zeros(1)).item() == 0


def test_the_summed_divergence_is_the_sum_of_its_parts_with_the_same_slopes():
    torch.manual_seed(0)
    given = [t.double().requires_grad_() for t in (*torch.randn(3, 5, 4), *(2 * torch.randn(3, 1, 4)))]

    def summed(mu, logvar, l, m, logvar_p, k):  # noqa: E741
        return summed_kl(*(SpikeAndSlab(*q[:2], spike_logits=q[2]) for q in ((mu, logvar, l), (m, logvar_p, k))))

    q, p = (SpikeAndSlab(*part[:2], spike_logits=part[2], validate_args=False) for part in (given[:3], given[3:]))
    for found, expected in zip(summed(*given), kl_parts(q, p), strict=True):
        torch.testing.assert_close(found, expected.sum(-1))
    assert torch.autograd.gradcheck(summed, given)
    assert torch.autograd.gradgradcheck(summed, given)
