"""Spike estimators: what they draw, and what gradient they pass."""

import math

import pytest
import torch

from vsc.errors import UsageError
from vsc.model import VSC
from vsc.model.distributions import SpikeAndSlab
from vsc.model.likelihoods import GaussianFixed, GaussianShared, Laplace
from vsc.model.nets import linear, mlp
from vsc.model.spikes import SPIKES, analytic, concrete, hard, sigmoid, straight_through
from vsc.model.thresholded import ThresholdedLaplace

HARD_DRAWS = {"hard": hard, "straight-through": straight_through}
OF_ANY = [name for name in SPIKES if name != "analytic"]  # those that take any log p(x|z)
RELAXED = {"sigmoid": (sigmoid, 4.0), "concrete": (concrete, 0.7)}


def gates(estimator, gamma, relaxation=0.5, n=20_000):
    """Draw w alone, (n, J): the slab is held at 1 with no spread."""
    gamma = torch.as_tensor(gamma, dtype=torch.float64).expand(n, -1)
    seen = []

    def log_px(z):
        seen.append(z)
        return z.sum(-1)

    estimator(SpikeAndSlab(torch.ones_like(gamma), torch.full_like(gamma, -200), gamma=gamma), log_px, relaxation)
    assert len(seen) == 1
    return seen[0]


def wavy(z):
    """A smooth function of z, far from linear, in the place of log p(x|z)."""
    return (z.square() + torch.sin(3 * z)).sum(-1) + z.prod(-1)


@pytest.mark.parametrize("name", HARD_DRAWS)
def test_hard_draws_open_a_gate_with_probability_gamma(name):
    gamma = torch.tensor([0.0, 0.01, 0.3, 0.5, 0.99, 1.0], dtype=torch.float64)
    w = gates(HARD_DRAWS[name], gamma)
    assert set(w.unique().tolist()) == {0, 1}
    error = (w.mean(0) - gamma).abs()
    assert (error <= 4 * (gamma * (1 - gamma) / len(w)).sqrt()).all()


def test_straight_through_draw_does_not_depend_on_the_temperature():
    torch.manual_seed(1)
    a = gates(straight_through, [0.3, 0.6], 0.1, n=100)
    torch.manual_seed(1)
    assert torch.equal(a, gates(straight_through, [0.3, 0.6], 5.0, n=100))


@pytest.mark.parametrize("c", [2.0, 50.0, 200.0])
def test_sigmoid_mask_never_shuts(c):
    w = gates(sigmoid, [0.0], c, n=200_000)
    # the integral of S(c (eta - 1)) over (0, 1); ln 2 / c up to e^-c
    expected = (math.log(2) - math.log1p(math.exp(-c))) / c
    assert abs(w.mean() - expected) <= 4 * w.std() / math.sqrt(len(w))
    assert w.min() > 0


def test_nine_percent_of_sigmoid_masks_leak_at_the_papers_sharpness():
    leaks = (gates(sigmoid, [0.0], 50.0, n=50_000) > 0.01).double().mean().item()
    expected = math.log(99) / 50  # eta > 1 - ln 99 / c
    assert leaks == pytest.approx(expected, abs=4 * math.sqrt(expected / 50_000))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_concrete_exceeds_one_half_with_probability_gamma(temperature):
    gamma = torch.tensor([0.02, 0.3, 0.5, 0.9], dtype=torch.float64)
    above = (gates(concrete, gamma, temperature) > 0.5).double().mean(0)
    assert ((above - gamma).abs() <= 4 * (gamma * (1 - gamma) / 20_000).sqrt()).all()


@pytest.mark.parametrize(("estimator", "limit"), [(concrete, 1e-6), (sigmoid, 1e7)])
def test_relaxations_become_hard_in_the_limit(estimator, limit):
    w = gates(estimator, [0.2, 0.7], limit)
    assert torch.minimum(w, 1 - w).mean() < 1e-4
    gamma = torch.tensor([0.2, 0.7], dtype=torch.float64)
    assert ((w.mean(0) - gamma).abs() <= 4 * (gamma * (1 - gamma) / len(w)).sqrt() + 1e-4).all()


@pytest.mark.parametrize("name", RELAXED)
def test_pathwise_gradient_equals_finite_differences(name):
    estimator, relaxation = RELAXED[name]

    def frozen(mu, logvar, logits):
        torch.manual_seed(3)
        return estimator(SpikeAndSlab(mu, logvar, spike_logits=logits), wavy, relaxation)

    leaves = [torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(frozen, leaves)


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0])
def test_straight_through_passes_concretes_gradient(temperature):
    mu, logvar, logits, slope = torch.randn(4, 6, 3, dtype=torch.float64)

    def gradient(estimator):
        torch.manual_seed(4)
        leaf = logits.clone().requires_grad_()
        value = estimator(SpikeAndSlab(mu, logvar, spike_logits=leaf), lambda z: (slope * z).sum(-1), temperature)
        return torch.autograd.grad(value.sum(), leaf)[0]

    expected = gradient(concrete)
    assert (expected != 0).all()
    torch.testing.assert_close(gradient(straight_through), expected)


def test_straight_through_mean_gradient_is_the_concrete_relaxations():
    """With log p linear in z the estimator is exact for E of the relaxed mask: d E[w] / d logit, by quadrature."""
    T, logit = 0.5, 0.8
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    shift = torch.tensor([-1e-4, 1e-4], dtype=torch.float64)[:, None]
    relaxed = torch.sigmoid((logit + shift + torch.logit(u)) / T).mean(1)
    expected = (relaxed[1] - relaxed[0]) / 2e-4
    n = 100_000
    leaf = torch.full((n, 1), logit, dtype=torch.float64, requires_grad=True)
    q = SpikeAndSlab(torch.ones_like(leaf), torch.full_like(leaf, -200), spike_logits=leaf)
    draws = torch.autograd.grad(straight_through(q, lambda z: z.sum(-1), T).sum(), leaf)[0]
    assert abs(draws.mean() - expected) <= 4 * draws.std() / math.sqrt(n)


def test_hard_passes_no_gradient_to_gamma():
    mu, logits = torch.randn(2, 8, 3).unbind(0)
    mu.requires_grad_(), logits.requires_grad_()
    value = hard(SpikeAndSlab(mu, torch.zeros(8, 3), spike_logits=logits), wavy)
    assert torch.autograd.grad(value.sum(), mu, retain_graph=True)[0].abs().sum() > 0
    assert torch.autograd.grad(value.sum(), logits, allow_unused=True)[0] is None


@pytest.mark.parametrize("name", OF_ANY)
class TestEverySpikeEstimator:
    relaxation = 2.0

    def test_gradient_reaches_every_parameter(self, name):
        leaves = [torch.randn(64, 4, requires_grad=True) for _ in range(3)]
        q = SpikeAndSlab(leaves[0], leaves[1], spike_logits=leaves[2])
        for gradient in torch.autograd.grad(SPIKES[name](q, wavy, self.relaxation).sum(), leaves):
            assert torch.isfinite(gradient).all()
            assert (gradient.abs().sum(0) > 0).all()

    def test_finite_at_extreme_and_certain_gates(self, name):
        logits = torch.tensor([[-math.inf, -50.0, 50.0, math.inf]]).repeat(100, 1).requires_grad_()
        mu = torch.randn(100, 4, requires_grad=True)
        q = SpikeAndSlab(mu, torch.zeros(100, 4), spike_logits=logits)
        value = SPIKES[name](q, wavy, self.relaxation)
        assert torch.isfinite(value).all()
        for gradient in torch.autograd.grad(value.sum(), (mu, logits)):
            assert torch.isfinite(gradient).all()

    def test_examples_do_not_mix(self, name):
        mu = torch.randn(5, 3, requires_grad=True)
        q = SpikeAndSlab(mu, torch.zeros(5, 3), spike_logits=torch.full((5, 3), 20.0))
        gradient = torch.autograd.grad(SPIKES[name](q, wavy, self.relaxation)[2], mu)[0]
        assert (gradient[[0, 1, 3, 4]] == 0).all()
        assert (gradient[2] != 0).all()

    def test_one_number_per_example_and_the_same_for_the_same_seed(self, name):
        q = SpikeAndSlab(torch.randn(7, 4), torch.randn(7, 4), spike_logits=torch.randn(7, 4))
        values = []
        for _ in range(2):
            torch.manual_seed(5)
            values.append(SPIKES[name](q, wavy, self.relaxation))
        assert torch.equal(*values)
        assert values[0].shape == (7,)


def gradients(estimator, n, J=4):
    """Per-draw gradients of the estimate with respect to the logits, (n, J), and the values, (n,)."""
    generator = torch.Generator().manual_seed(3)
    mu, logvar, logits = torch.randn(3, J, generator=generator, dtype=torch.float64).unsqueeze(1).repeat(1, n, 1)
    logits.requires_grad_()
    value = estimator(SpikeAndSlab(mu, logvar - 1, spike_logits=logits), wavy, 0.5)
    return torch.autograd.grad(value.sum(), logits)[0], value.detach()


def reinforce(qz, log_px, relaxation):
    """The score function without a baseline, written independently of the estimators."""
    w = torch.bernoulli(qz.gamma.detach())
    f = log_px(w * qz.slab())
    score = torch.distributions.Bernoulli(logits=qz.spike_logits).log_prob(w).sum(-1)
    return f + f.detach() * (score - score.detach())


@pytest.mark.parametrize("name", ["disarm", "rloo"])
def test_unbiased_estimators_agree_with_the_exact_gradient(name):
    n = 60_000
    torch.manual_seed(5)
    estimate, value = gradients(SPIKES[name], n)
    truth, expected = gradients(SPIKES["exact"], n)  # exact in the gates, Monte Carlo in the slab
    error = (estimate.mean(0) - truth.mean(0)).abs()
    allowed = 4 * ((estimate.var(0) + truth.var(0)) / n).sqrt()
    assert (error <= allowed).all()
    assert (value.mean() - expected.mean()).abs() <= 4 * ((value.var() + expected.var()) / n).sqrt()
    # and the gradient is far enough from nothing for that to mean something
    assert (truth.mean(0).abs() > 2 * allowed).any()


@pytest.mark.parametrize("name", ["disarm", "rloo"])
def test_variance_is_below_that_of_plain_reinforce(name):
    torch.manual_seed(6)
    plain = gradients(reinforce, 20_000)[0].var(0).sum()
    assert gradients(SPIKES[name], 20_000)[0].var(0).sum() < plain


class TestThresholdedLaplace:
    """The same estimators, where the gate gamma = exp(-t / b) and the slab Lap(mu, b) share b."""

    mu = torch.tensor([0.9, -0.4, 1.5], dtype=torch.float64)
    scale = torch.tensor([0.8, 1.5, 0.5], dtype=torch.float64)
    t = torch.tensor([0.5, 1.0, 0.2], dtype=torch.float64)

    def leaves(self, n):
        rows = (part.expand(n, -1).clone().requires_grad_() for part in (self.mu, self.scale.log(), self.t))
        return list(rows)

    @pytest.mark.parametrize("name", ["disarm", "rloo", "exact"])
    def test_unbiased_estimators_have_the_closed_form_gradient(self, name):
        """E[z + z^2] = gamma (mu + mu^2 + 2 b^2) in each dimension, differentiated by hand."""
        n = 60_000
        parts = self.leaves(n)
        value = SPIKES[name](ThresholdedLaplace(*parts), lambda z: (z + z.square()).sum(-1), 0.0)
        mu, b, t = self.mu, self.scale, self.t
        gamma, inside = torch.exp(-t / b), mu + mu.square() + 2 * b.square()
        expected = (
            gamma * (1 + 2 * mu),
            gamma * t / b * inside + gamma * 4 * b.square(),
            -gamma / b * inside,
        )
        value_error = 4 * value.std().item() / math.sqrt(n)
        assert abs(value.mean().item() - (gamma * inside).sum().item()) <= value_error
        for draws, truth in zip(torch.autograd.grad(value.sum(), parts), expected, strict=True):
            allowed = 4 * draws.std(0) / math.sqrt(n)
            assert ((draws.mean(0) - truth).abs() <= allowed).all()
            assert (truth.abs() > 2 * allowed).all()

    @pytest.mark.parametrize("name", ["disarm", "rloo"])
    def test_unbiased_estimators_agree_with_the_exact_gradient(self, name):
        """Of a function that does not fall apart into dimensions."""
        n = 60_000
        parts = self.leaves(n)
        estimate, truth = (
            torch.autograd.grad(SPIKES[kind](ThresholdedLaplace(*parts), bounded, 0.0).sum(), parts[1])[0]
            for kind in (name, "exact")
        )
        allowed = 4 * ((estimate.var(0) + truth.var(0)) / n).sqrt()
        assert ((estimate.mean(0) - truth.mean(0)).abs() <= allowed).all()
        assert (truth.mean(0).abs() > 2 * allowed).any()

    @pytest.mark.parametrize("name", OF_ANY)
    def test_gradient_reaches_every_parameter(self, name):
        parts = self.leaves(64)
        value = SPIKES[name](ThresholdedLaplace(*parts), wavy, 2.0)
        assert value.shape == (64,)
        assert torch.isfinite(value).all()
        for gradient in torch.autograd.grad(value.sum(), parts):
            assert torch.isfinite(gradient).all()
            assert (gradient.abs().sum(0) > 0).all()

    @pytest.mark.parametrize("name", HARD_DRAWS)
    def test_hard_draws_open_a_gate_with_probability_gamma(self, name):
        seen = []
        HARD_DRAWS[name](ThresholdedLaplace(*self.leaves(20_000)), lambda z: seen.append(z) or z.sum(-1), 0.5)
        gamma = torch.exp(-self.t / self.scale)
        error = ((seen[0] != 0).double().mean(0) - gamma).abs()
        assert (error <= 4 * (gamma * (1 - gamma) / 20_000).sqrt()).all()


def bounded(z):
    """A function of all latents at once, whose Monte Carlo error stays small under Laplace tails."""
    return torch.tanh(z.sum(-1)) + torch.sin(z).prod(-1)


def test_mean_passes_the_slope_of_w_to_gamma():
    torch.manual_seed(7)
    gamma = torch.tensor([[0.2, 0.9]], dtype=torch.float64, requires_grad=True)
    mu = torch.tensor([[3.0, -2.0]], dtype=torch.float64)
    value = SPIKES["mean"](SpikeAndSlab(mu, torch.full_like(mu, -200), gamma=gamma), lambda z: z.sum(-1), 0.0)
    assert torch.autograd.grad(value.sum(), gamma)[0].tolist() == [[3.0, -2.0]]


def test_exact_is_the_sum_over_all_gates():
    gamma = torch.tensor([[0.3, 0.6]], dtype=torch.float64)
    mu = torch.tensor([[2.0, 5.0]], dtype=torch.float64)
    value = SPIKES["exact"](SpikeAndSlab(mu, torch.full_like(mu, -200), gamma=gamma), lambda z: z.prod(-1) + 1, 0.0)
    assert value.item() == pytest.approx(0.3 * 0.6 * 10 + 1)


def test_exact_refuses_many_latents():
    with pytest.raises(UsageError, match="at most 10 latents, not 11"):
        SPIKES["exact"](SpikeAndSlab(torch.zeros(1, 11), torch.zeros(1, 11), gamma=torch.full((1, 11), 0.5)), wavy, 0.0)


class TestAnalytic:
    """The expectation in closed form, of a VSC with a linear decoder and one variance."""

    J, M = 4, 6

    def model(self, likelihood=None, net=linear, missing=False):
        torch.manual_seed(8)
        likelihood = GaussianShared() if likelihood is None else likelihood
        nets = net((self.M,), 3 * self.J, self.J, likelihood.outputs)
        model = VSC(*nets, shape=(self.M,), latent_dim=self.J, likelihood=likelihood, missing=missing, spikes=analytic)
        with torch.no_grad():
            for part in model.parameters():
                part.add_(0.3 * torch.randn_like(part))
        return model.double()

    def leaves(self, n, logvar=-1.0):
        """Return the same mu, logvar and logits in n rows, and one x."""
        generator = torch.Generator().manual_seed(9)
        mu, logits, x = (torch.randn(k, generator=generator, dtype=torch.float64) for k in (self.J, self.J, self.M))
        return [part.repeat(n, 1).requires_grad_() for part in (2 * mu, torch.full_like(mu, logvar), logits)], x.repeat(
            n, 1
        )

    def test_is_the_expected_squared_error(self):
        model = self.model(GaussianFixed(0.3))
        (mu, logvar, logits), x = self.leaves(1)
        gamma, D, b = torch.sigmoid(logits), model.decoder.weight, model.decoder.bias
        spread = gamma * (logvar.exp() + mu.square()) - (gamma * mu).square()
        error = (x - b - (gamma * mu) @ D).square().sum() + (D.square().sum(1) * spread).sum()
        expected = -0.5 * error / 0.3 - 0.5 * self.M * math.log(2 * math.pi * 0.3)
        torch.testing.assert_close(analytic(SpikeAndSlab(mu, logvar, spike_logits=logits), model.given(x))[0], expected)

    @pytest.mark.parametrize("likelihood", [GaussianShared(), GaussianFixed(0.3)])
    def test_is_the_mean_of_hard_draws(self, likelihood):
        model, n = self.model(likelihood), 100_000
        leaves, x = self.leaves(n)
        qz = SpikeAndSlab(leaves[0], leaves[1], spike_logits=leaves[2])
        with torch.no_grad():
            draws = hard(qz, model.given(x))
            assert abs(draws.mean() - analytic(qz[:1], model.given(x[:1]))) <= 4 * draws.std() / math.sqrt(n)

    def test_without_spread_it_is_the_sum_over_all_gates_with_all_its_gradients(self):
        model = self.model()
        found = []
        for estimator in (analytic, SPIKES["exact"]):
            (mu, _, logits), x = self.leaves(1)
            qz = SpikeAndSlab(mu, torch.full_like(mu, -200), spike_logits=logits)
            value = estimator(qz, model.given(x), 0.0)
            weights = [*model.decoder.parameters(), *model.likelihood.parameters()]
            found.append([value, *torch.autograd.grad(value.sum(), [mu, logits, *weights])])
        torch.testing.assert_close(*found)

    def test_with_spread_it_is_the_mean_of_that_sum_with_all_its_gradients(self):
        model, n = self.model(), 20_000
        torch.manual_seed(10)
        rows, x = self.leaves(n)
        value = SPIKES["exact"](SpikeAndSlab(rows[0], rows[1], spike_logits=rows[2]), model.given(x), 0.0)
        one, x = self.leaves(1)
        closed = analytic(SpikeAndSlab(one[0], one[1], spike_logits=one[2]), model.given(x))
        drawn = [value.detach()[:, None], *torch.autograd.grad(value.sum(), rows)]
        for draws, expected in zip(drawn, [closed[:, None], *torch.autograd.grad(closed.sum(), one)], strict=True):
            allowed = 4 * draws.std(0) / math.sqrt(n)
            assert ((draws.mean(0) - expected[0]).abs() <= allowed + 1e-9).all()
            assert (expected[0].abs() > 2 * allowed).any()

    def test_what_is_missing_adds_nothing(self):
        model, n = self.model(missing=False), 100_000
        model.missing = True
        leaves, x = self.leaves(n)
        x[:, [1, 4]] = math.nan
        qz = SpikeAndSlab(leaves[0], leaves[1], spike_logits=leaves[2])
        with torch.no_grad():
            draws = hard(qz, model.given(x))
            assert abs(draws.mean() - analytic(qz[:1], model.given(x[:1]))) <= 4 * draws.std() / math.sqrt(n)

    def test_training_has_no_noise(self):
        model = self.model()
        x = self.leaves(3)[1]
        assert torch.equal(model(x).elbo, model(x).elbo)
        model.eval()
        assert not torch.equal(model(x).elbo, model(x).elbo)  # what is reported is drawn hard, as of all models

    @pytest.mark.parametrize(("likelihood", "net"), [(Laplace(), linear), (GaussianShared(), mlp)])
    def test_refuses_what_is_not_quadratic(self, likelihood, net):
        model, x = self.model(likelihood, net), self.leaves(2)[1]
        with pytest.raises(UsageError, match=r"model.net linear or lista and model.likelihood gaussian-shared"):
            model(x)
        model.eval()(x)  # to measure, nothing is needed

    def test_refuses_a_plain_function(self):
        qz = SpikeAndSlab(torch.zeros(1, 2), torch.zeros(1, 2), gamma=torch.full((1, 2), 0.5))
        with pytest.raises(UsageError, match="needs the curvature"):
            analytic(qz, wavy)
