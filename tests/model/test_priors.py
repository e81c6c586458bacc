"""Priors: one contract for all (divergence, samples and density agree), and closed forms for each."""

import inspect
import math

import pytest
import torch
from numpy.polynomial.legendre import leggauss
from torch import nn
from torch.distributions import Laplace, Normal, kl_divergence

from vsc.errors import UsageError
from vsc.model import VSC
from vsc.model.distributions import SpikeAndSlab, ThresholdedLaplace
from vsc.model.divergences import kl_parts
from vsc.model.priors import (
    PRIORS,
    SELECTORS,
    FreeMixturePrior,
    LaplacePrior,
    LearnedPrior,
    MixturePrior,
    NormalPrior,
    Prior,
    PseudoInputPrior,
    SpikeSlabPrior,
    ThresholdedLaplacePrior,
)
from vsc.model.priors.mixtures import CERTAIN

M, J, U, ALPHA = 4, 2, 5, 0.3
OPTIONS = {"inputs": M, "latent_dim": J, "alpha": ALPHA, "components": U}
ALL = PRIORS | {"laplace": LaplacePrior, "thresholded-laplace": ThresholdedLaplacePrior}
CASES = [
    (name, selector)
    for name, kind in ALL.items()
    for selector in (SELECTORS if issubclass(kind, MixturePrior) else [None])
]
DRAWS = 20_000


def build(name, selector=None, dtype=torch.float64):
    """Return the prior with its parameters moved from where they start, x, and q(z|.)."""
    wanted = inspect.signature(ALL[name]).parameters
    options = {key: value for key, value in OPTIONS.items() if key in wanted}
    prior = ALL[name](**options, **({"selector": SELECTORS[selector]} if selector else {})).to(dtype)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter += 0.4 * torch.randn_like(parameter)
    return prior, torch.randn(3, M, dtype=dtype), encoder(prior, dtype)


def encoder(prior, dtype):
    """Return a linear q(z|x) of the family that the prior is for."""
    layer = nn.Linear(M, 3 * J, dtype=dtype)

    def posterior(x):
        mu, logvar, logits = layer(x).chunk(3, -1)
        if isinstance(prior, NormalPrior):
            return Normal(mu, (0.5 * logvar).exp())
        if isinstance(prior, LaplacePrior):
            return Laplace(mu, logvar.exp())
        if isinstance(prior, ThresholdedLaplacePrior):
            return ThresholdedLaplace(mu, logvar, prior.threshold)
        return SpikeAndSlab(mu, logvar, spike_logits=2 * logits)

    posterior.parameters = list(layer.parameters())
    return posterior


def total(divergence):
    return divergence.slab + divergence.spike + divergence.selection


def atoms(prior, posterior):
    """P(z_j = 0) by each prior's definition, (J,)."""
    if isinstance(prior, NormalPrior | LaplacePrior):
        return torch.zeros(J)
    if isinstance(prior, SpikeSlabPrior):
        return torch.full((J,), 1 - ALPHA)
    if isinstance(prior, LearnedPrior):
        return 1 - torch.sigmoid(prior.spike_logits)
    if isinstance(prior, ThresholdedLaplacePrior):
        return 1 - torch.exp(-prior.log_threshold.exp())
    if isinstance(prior, PseudoInputPrior):
        return 1 - posterior(prior.pseudo_inputs).gamma.mean(0)
    return 1 - torch.sigmoid(prior.mixed(posterior).spike_logits).mean(0)


@pytest.mark.parametrize(("name", "selector"), CASES)
class TestEveryPrior:
    def test_parts_are_the_mean_log_ratio_or_above_it(self, name, selector):
        prior, x, posterior = build(name, selector)
        with torch.no_grad():
            qz = posterior(x)
            z = qz.sample((DRAWS,))
            log_p = prior.log_prob(z.flatten(0, 1), posterior).unflatten(0, (DRAWS, len(x)))
            ratio = qz.log_prob(z).sum(-1) - log_p
            bound = total(prior.kl(qz, x, posterior))
        below = (ratio.mean(0) - bound) / (ratio.std(0) / math.sqrt(DRAWS))
        assert (below <= 4).all()
        if not isinstance(prior, MixturePrior):
            assert (below >= -4).all()

    def test_parts_are_not_negative_and_those_of_the_latents_add_up(self, name, selector):
        prior, _, posterior = build(name, selector)
        x = 2 * torch.randn(200, M, dtype=torch.float64)
        kl = prior.kl(posterior(x), x, posterior)
        each = prior.latent_kl(posterior(x), x, posterior)
        assert each.shape == (200, J)
        torch.testing.assert_close(each.sum(-1), kl.slab + kl.spike)
        for part in kl:
            assert part.shape == (200,)
            assert (part >= -1e-12).all()
        if isinstance(prior, MixturePrior):
            assert (kl.selection <= math.log(U) + 1e-12).all()
            assert (kl.selection > 0).all()
            assert (kl.penalty > 0).all()
        else:
            assert (kl.selection == 0).all()
            assert (kl.penalty == 0).all()


@pytest.mark.parametrize("name", ALL)
class TestEveryPriorOfCodes:
    """What does not depend on a selector."""

    def test_atoms_and_density_make_one(self, name):
        """In two dimensions: Gauss-Legendre nodes in panels, and one node for the atom."""
        prior, _, posterior = build(name)
        t, weight = (torch.as_tensor(a) for a in leggauss(40))
        nodes, weights = [], []
        for a, b in ((-24, -6), (-6, 0), (0, 6), (6, 24)):  # Laplace slabs have a kink at 0
            nodes.append((a + b) / 2 + (b - a) / 2 * t)
            weights.append((b - a) / 2 * weight)
        if atoms(prior, posterior).max() > 0:
            nodes.append(torch.zeros(1, dtype=torch.float64))
            weights.append(torch.ones(1, dtype=torch.float64))
        grid = torch.cartesian_prod(torch.cat(nodes), torch.cat(nodes))
        masses = torch.cartesian_prod(torch.cat(weights), torch.cat(weights)).prod(-1)
        integral = (masses * prior.log_prob(grid, posterior).exp()).sum().item()
        assert integral == pytest.approx(1, abs=1e-6)

    def test_samples_are_zero_as_often_as_defined(self, name):
        prior, _, posterior = build(name)
        z = prior.sample(DRAWS, posterior)
        assert z.shape == (DRAWS, J)
        assert not z.requires_grad
        share, expected = (z == 0).double().mean(0), atoms(prior, posterior)
        assert ((share - expected).abs() <= 4 * (expected * (1 - expected) / DRAWS).sqrt()).all()

    def test_samples_and_density_agree(self, name):
        """E_p of r / p is 1 for a density r that lies inside p."""
        prior, _, posterior = build(name)
        gamma = torch.full((J,), 0.5 if atoms(prior, posterior).max() > 0 else 1.0, dtype=torch.float64)
        for centre in (-0.4, 0.3):
            r = SpikeAndSlab(torch.full_like(gamma, centre), torch.full_like(gamma, -1.5), gamma=gamma)
            z = prior.sample(DRAWS, posterior).double()
            share = (r.log_prob(z).sum(-1) - prior.log_prob(z, posterior)).exp()
            assert abs(share.mean() - 1) <= 4 * share.std() / math.sqrt(DRAWS)
            assert share.std() < 3  # else four standard errors would say nothing


def gated(shape=(8, 5), scale=1.5):
    mu, logvar, logits = torch.randn(3, *shape, dtype=torch.float64)
    return SpikeAndSlab(mu, logvar, spike_logits=scale * logits)


def kl(prior, qz):
    """Return the divergence from a prior that looks neither at x nor at the encoder."""
    return prior.kl(qz, None, None)


@pytest.mark.parametrize("alpha", [1e-4, 0.01, 0.5, 0.999])
def test_spike_slab_kl_is_the_general_one_summed(alpha):
    q, zero = gated(scale=3), torch.zeros(5, dtype=torch.float64)
    slab, spike, *_ = kl(SpikeSlabPrior(5, alpha), q)
    expected = kl_parts(q, SpikeAndSlab(zero, zero, gamma=zero + alpha))
    torch.testing.assert_close(slab, expected.slab.sum(-1))
    torch.testing.assert_close(spike, expected.spike.sum(-1))


def test_iclr_equation_nine():
    """The paper's own formula, in numbers."""
    g, mu, s2, a = 0.3, 0.8, 0.25, 0.1
    expected = g / 2 * (mu**2 + s2 - 1 - math.log(s2)) + (1 - g) * math.log((1 - g) / (1 - a)) + g * math.log(g / a)
    q = SpikeAndSlab(*(torch.tensor([[v]], dtype=torch.float64) for v in (mu, math.log(s2), g)))
    assert total(kl(SpikeSlabPrior(1, a), q)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("prior", [SpikeSlabPrior(5, 1.0), NormalPrior(5)])
def test_open_prior_and_gates_give_the_normal_kl(prior):
    mu, logvar = torch.randn(2, 8, 5, dtype=torch.float64)
    divergence = kl(prior, SpikeAndSlab(mu, logvar, gamma=torch.ones_like(mu)))
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(divergence.slab, expected)
    assert (divergence.spike == 0).all()
    assert prior.gates_open
    z = prior.sample(1000, None)
    assert (z != 0).all()
    torch.testing.assert_close(prior.log_prob(z, None), Normal(0.0, 1.0).log_prob(z).sum(-1))


def test_a_dense_prior_gives_a_hard_zero_no_mass():
    """At alpha = 1 the atom has none, so a code with an exact zero has density 0 with respect to delta_0."""
    assert SpikeSlabPrior(2, 1.0).log_prob(torch.tensor([[0.0, 1.0]]), None).item() == -math.inf


def test_normal_kl_is_torchs_summed():
    q = Normal(torch.randn(8, 5, dtype=torch.float64), torch.rand(8, 5, dtype=torch.float64) + 0.1)
    slab, spike, *_ = kl(NormalPrior(5), q)
    torch.testing.assert_close(slab, kl_divergence(q, Normal(0.0, 1.0)).sum(-1))
    assert spike.tolist() == [0] * 8


@pytest.mark.parametrize("kind", [SpikeSlabPrior, LearnedPrior])
def test_kl_is_least_where_gamma_is_alpha(kind):
    """At mu = 0, s = 1 the divergence vanishes at gamma = alpha, and its gradient with it."""
    alpha = 0.2
    logits = torch.full((1, 3), math.log(alpha / (1 - alpha)), dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, 3, dtype=torch.float64)
    prior = kind(3, alpha)
    if kind is LearnedPrior:  # at float64's alpha, not float32's
        prior.spike_logits = nn.Parameter(logits[0].detach().clone())
    least = total(kl(prior, SpikeAndSlab(zero, zero, spike_logits=logits)))
    assert least.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(least.sum(), logits)[0].abs().max() < 1e-12


def test_learned_prior_starts_as_the_fixed_one():
    q = gated()
    fixed, learned = kl(SpikeSlabPrior(5, 0.1), q), kl(LearnedPrior(5, 0.1).double(), q)
    torch.testing.assert_close(learned.slab, fixed.slab)
    torch.testing.assert_close(learned.spike, fixed.spike, rtol=1e-6, atol=0)  # its logit was made in float32


def test_learned_alpha_is_best_at_the_mean_gamma():
    q, prior = gated((50, 3)), LearnedPrior(3, 0.5).double()
    best = torch.logit(q.gamma.mean(0))

    def at(logits):
        with torch.no_grad():
            prior.spike_logits.copy_(logits)
        return kl(prior, q).spike.mean()

    assert torch.autograd.grad(at(best), prior.spike_logits)[0].abs().max() < 1e-12
    for shift in (-0.1, 0.1):
        assert at(best + shift) > at(best)


def test_thresholded_laplace_prior_starts_at_alpha():
    prior = ThresholdedLaplacePrior(3, 0.2)
    torch.testing.assert_close(torch.exp(-prior.threshold), torch.full((3,), 0.2))


def test_penalty_is_the_bernoulli_kl_of_the_mean_gamma():
    """J KL(Bern(mean gamma of the components) || Bern(alpha)), and nothing at gamma = alpha."""
    prior = FreeMixturePrior(M, J, ALPHA, U).double()
    x, q = torch.zeros(6, M, dtype=torch.float64), gated((6, J))
    a = torch.tensor(ALPHA, dtype=torch.float64)
    g = torch.sigmoid(prior.mixed(lambda x: None).spike_logits).mean()
    expected = J * (g * (g / a).log() + (1 - g) * ((1 - g) / (1 - a)).log())
    torch.testing.assert_close(prior.kl(q, x, None).penalty, expected.expand(6))
    with torch.no_grad():
        prior.spike_logits.fill_(CERTAIN * torch.atanh(torch.logit(a) / CERTAIN))
    assert prior.kl(q, x, None).penalty.abs().max() < 1e-12


def test_nu_sharpens_the_gates_of_the_pseudo_inputs():
    """S(nu (gamma - 1/2)), as the released code has it; the slabs stay."""
    _, _, posterior = build("pseudo-inputs")
    prior = PseudoInputPrior(M, J, ALPHA, U, nu=10.0).double()
    plain, sharp = posterior(prior.pseudo_inputs), prior.mixed(posterior)
    torch.testing.assert_close(sharp.gamma, 1 / (1 + torch.exp(-10 * (plain.gamma - 0.5))))
    assert torch.equal(sharp.mu, plain.mu)
    assert torch.equal(sharp.logvar, plain.logvar)


def test_pseudo_inputs_start_at_examples():
    prior, x = PseudoInputPrior(M, J, ALPHA, U), torch.rand(U, M)
    prior.start_at(x)
    assert torch.equal(prior.pseudo_inputs, x)
    with pytest.raises(UsageError, match="there are 3"):
        prior.start_at(x[:3])


@pytest.mark.parametrize("kind", [FreeMixturePrior, PseudoInputPrior])
def test_what_each_latent_costs_is_the_mean_over_the_components_chosen(kind):
    prior, x, posterior = build(next(name for name in ALL if ALL[name] is kind))
    q, p = posterior(x), prior.mixed(posterior)
    wide = SpikeAndSlab(q.mu[:, None], q.logvar[:, None], spike_logits=q.spike_logits[:, None])
    every = sum(kl_parts(wide, p))  # (B, U, J)
    chosen = torch.softmax(-every.sum(-1), -1)  # the optimal selector's q(u|x)
    torch.testing.assert_close(prior.latent_kl(q, x, posterior), (chosen.unsqueeze(-1) * every).sum(1))


@pytest.mark.parametrize("name", [name for name, kind in PRIORS.items() if kind is not NormalPrior])
def test_gradients_are_finite_at_extreme_posteriors(name):
    prior, x, posterior = build(name, dtype=torch.float32)
    for logit in (-math.inf, -1e4, -50.0, 50.0, 1e4, math.inf):
        for logvar in (-1000.0, 0.0, 1000.0):
            leaves = [torch.full((len(x), J), v, requires_grad=True) for v in (0.0, logvar, logit)]
            divergence = total(prior.kl(SpikeAndSlab(*leaves[:2], spike_logits=leaves[2]), x, posterior))
            assert torch.isfinite(divergence).all()
            for gradient in torch.autograd.grad(divergence.sum(), leaves):
                assert torch.isfinite(gradient).all()


class Curious(Prior):
    """Asks the encoder about inputs of its own."""

    def kl(self, qz, x, posterior):
        self.told = posterior(torch.ones(3, M)), posterior(x)
        return SpikeSlabPrior(J, ALPHA).kl(qz, x, posterior)

    def sample(self, n, posterior):
        raise NotImplementedError

    def log_prob(self, z, posterior):
        raise NotImplementedError


def test_a_prior_is_handed_the_encoder_itself():
    model, x = VSC(nn.Linear(M, 3 * J), nn.Linear(J, M), shape=(M,), latent_dim=J, prior=Curious()), torch.rand(7, M)
    for lam in (1.0, 0.3):
        model(x, lam=lam)
        for found, inputs in zip(model.prior.told, (torch.ones(3, M), x), strict=True):
            expected = model.posterior(inputs, lam)
            torch.testing.assert_close((found.mu, found.logvar), (expected.mu, expected.logvar))


def test_pseudo_inputs_share_the_pass_of_the_batch_and_other_inputs_are_encoded():
    prior, x, posterior = build("pseudo-inputs")
    calls = []
    qz, beside = prior.encoded(x, lambda inputs: calls.append(len(inputs)) or posterior(inputs))
    torch.testing.assert_close(prior.kl(qz, x, beside), prior.kl(posterior(x), x, posterior))
    assert calls == [len(x) + U]
    torch.testing.assert_close(beside(x[:2]).mu, posterior(x[:2]).mu)
    assert calls == [len(x) + U, 2]


@pytest.mark.parametrize("alpha", [0.01, 0.3, 1.0])
def test_spike_slab_samples(alpha):
    z = SpikeSlabPrior(4, alpha).sample(DRAWS, None)
    assert z.shape == (DRAWS, 4)
    on = (z != 0).double().mean(0)
    assert ((on - alpha).abs() <= 4 * math.sqrt(alpha * (1 - alpha) / DRAWS)).all()
    slab = z[z != 0].double()
    assert abs(slab.mean()) <= 4 / math.sqrt(len(slab))
    assert abs(slab.square().mean() - 1) <= 4 * math.sqrt(2 / len(slab))


def test_normal_samples():
    z = NormalPrior(4).sample(DRAWS, None)
    assert z.shape == (DRAWS, 4)
    assert (z.mean(0).abs() <= 4 / math.sqrt(DRAWS)).all()
    assert ((z.square().mean(0) - 1).abs() <= 4 * math.sqrt(2 / DRAWS)).all()


@pytest.mark.parametrize("name", [name for name, kind in ALL.items() if "alpha" in inspect.signature(kind).parameters])
def test_alpha_is_a_probability_above_zero(name):
    options = {key: value for key, value in OPTIONS.items() if key in inspect.signature(ALL[name]).parameters}
    for alpha in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(UsageError, match="alpha"):
            ALL[name](**options | {"alpha": alpha})


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (LearnedPrior, (J, 1.0), "alpha"),
        (ThresholdedLaplacePrior, (J, 1.0), "alpha"),
        (FreeMixturePrior, (M, J, 1.0), "alpha"),
        (FreeMixturePrior, (M, J, ALPHA, 0), "at least 1 component"),
        (PseudoInputPrior, (M, J, ALPHA, U, None, 0.0), "nu"),
        (PseudoInputPrior, (M, J, ALPHA, U, None, math.nan), "nu"),
        (PseudoInputPrior, (M, J, ALPHA, U, None, math.inf), "nu"),
        (FreeMixturePrior, (M, J, ALPHA, U, None, False, math.nan), "gate_init"),
    ],
)
def test_refused(kind, options, words):
    with pytest.raises(UsageError, match=words):
        kind(*options)
