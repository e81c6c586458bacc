"""Priors: one contract for all (divergence, samples and density agree), and closed forms for each."""

import math

import pytest
import torch
from numpy.polynomial.legendre import leggauss
from torch import nn
from torch.distributions import Normal, kl_divergence

from vsc.errors import UsageError
from vsc.model import VSC
from vsc.model.distributions import SpikeAndSlab
from vsc.model.divergences import kl_parts
from vsc.model.priors import (
    GATES,
    FixedGates,
    LearnedSlab,
    MixtureGates,
    NormalPrior,
    OwnSlab,
    Prior,
    PseudoInputGates,
    SpikeSlabPrior,
    ThresholdedLaplacePrior,
    ThresholdedNormalPrior,
)
from vsc.model.priors.gates import CERTAIN

M, J, U, ALPHA = 4, 2, 5, 0.3
DRAWS = 20_000


def total(divergence):
    return divergence.slab + divergence.spike + divergence.selection


def several(prior):
    return isinstance(prior, SpikeSlabPrior) and prior.components > 1


def defined(prior, posterior):
    """Return the components of a spike-and-slab prior by the definition of its parts, (U, J)."""
    gates, slab = prior.gates, prior.own_slab
    if isinstance(gates, FixedGates):
        pi = torch.full((1, J), ALPHA, dtype=torch.float64)
    elif isinstance(gates, PseudoInputGates):
        own = posterior(gates.pseudo_inputs)
        pi = own.gamma
    else:
        logits = gates.spike_logits
        pi = torch.sigmoid(CERTAIN * torch.tanh(logits / CERTAIN) if isinstance(gates, MixtureGates) else logits)
        pi = pi.expand(gates.components, J)
    if isinstance(slab, LearnedSlab):
        return SpikeAndSlab(slab.mean.expand_as(pi), slab.logvar.expand_as(pi), gamma=pi)
    if not isinstance(slab, OwnSlab):
        return SpikeAndSlab(torch.zeros_like(pi), torch.zeros_like(pi), gamma=pi)
    own = own if isinstance(gates, PseudoInputGates) else slab
    return SpikeAndSlab(own.mu, own.logvar, gamma=pi)


def atoms(prior, posterior):
    """P(z_j = 0) by each prior's definition, (J,)."""
    if isinstance(prior, SpikeSlabPrior):
        return 1 - defined(prior, posterior).gamma.mean(0)
    if isinstance(prior, ThresholdedLaplacePrior):
        return 1 - torch.exp(-prior.log_threshold.exp())
    if isinstance(prior, ThresholdedNormalPrior):
        return torch.erf(prior.log_threshold.exp() / math.sqrt(2))
    return torch.zeros(J)


def test_parts_are_the_mean_log_ratio_or_above_it(build, every_case):
    prior, x, posterior = build(every_case)
    with torch.no_grad():
        qz = posterior(x)
        z = qz.sample((DRAWS,))
        log_p = prior.log_prob(z.flatten(0, 1), posterior).unflatten(0, (DRAWS, len(x)))
        ratio = qz.log_prob(z).sum(-1) - log_p
        bound = total(prior.kl(qz, x, posterior))
    below = (ratio.mean(0) - bound) / (ratio.std(0) / math.sqrt(DRAWS))
    assert (below <= 4).all()
    if not several(prior):
        assert (below >= -4).all()


def test_parts_are_not_negative_and_those_of_the_latents_add_up(build, every_case):
    prior, _, posterior = build(every_case)
    x = 2 * torch.randn(200, M, dtype=torch.float64)
    kl = prior.kl(posterior(x), x, posterior)
    each = prior.latent_kl(posterior(x), x, posterior)
    assert each.shape == (200, J)
    torch.testing.assert_close(each.sum(-1), kl.slab + kl.spike)
    for part in kl:
        assert part.shape == (200,)
        assert (part >= -1e-12).all()
    if several(prior):
        assert (kl.selection <= math.log(U) + 1e-12).all()
    assert (kl.selection > 0).all() == several(prior)
    assert (kl.penalty > 0).all() == several(prior)


def test_atoms_and_density_make_one(build, every):
    """In two dimensions: Gauss-Legendre nodes in panels, and one node for the atom."""
    prior, _, posterior = build(every)
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


def test_samples_are_zero_as_often_as_defined(build, every):
    prior, _, posterior = build(every)
    z = prior.sample(DRAWS, posterior)
    assert z.shape == (DRAWS, J)
    assert z.dtype == torch.float64
    assert not z.requires_grad
    share, expected = (z == 0).double().mean(0), atoms(prior, posterior)
    assert ((share - expected).abs() <= 4 * (expected * (1 - expected) / DRAWS).sqrt()).all()


def test_samples_and_density_agree(build, every):
    """E_p of r / p is 1 for a density r that lies inside p."""
    prior, _, posterior = build(every)
    gamma = torch.full((J,), 0.4 if atoms(prior, posterior).max() > 0 else 1.0, dtype=torch.float64)
    for centre in (-0.4, 0.3):
        r = SpikeAndSlab(torch.full_like(gamma, centre), torch.full_like(gamma, -1.5), gamma=gamma)
        z = prior.sample(DRAWS, posterior)
        share = (r.log_prob(z).sum(-1) - prior.log_prob(z, posterior)).exp()
        assert abs(share.mean() - 1) <= 4 * share.std() / math.sqrt(DRAWS)
        assert share.std() < 3  # else four standard errors would say nothing


def test_density_is_the_mean_over_components_that_are_gates_times_slabs(build, pair):
    prior, x, posterior = build(pair)
    found, parts = prior.mixed(posterior, torch.float64), defined(prior, posterior)
    for name in ("mu", "logvar", "gamma"):
        torch.testing.assert_close(getattr(found, name).expand_as(parts.gamma), getattr(parts, name))
    z = posterior(x.repeat(20, 1)).sample()
    densities = parts.log_prob(z[:, None]).sum(-1).exp()  # (N, U)
    torch.testing.assert_close(prior.log_prob(z, posterior).exp(), densities.mean(1))


def test_values_of_what_is_on_are_those_of_the_slab(build, one):
    prior, x, posterior = build(one)
    parts = defined(prior, posterior)
    values = prior.slab(posterior(x), x, DRAWS, posterior)
    assert values.shape == (3, DRAWS, J)
    scaled = (values - parts.mu) / (parts.logvar / 2).exp()
    assert (scaled.mean(1).abs() <= 4 / math.sqrt(DRAWS)).all()
    assert ((scaled.square().mean(1) - 1).abs() <= 4 * math.sqrt(2 / DRAWS)).all()


def gated(shape=(8, 5), scale=1.5):
    mu, logvar, logits = torch.randn(3, *shape, dtype=torch.float64)
    return SpikeAndSlab(mu, logvar, spike_logits=scale * logits)


def fixed(latent_dim, alpha):
    return SpikeSlabPrior(FixedGates(latent_dim, alpha))


def kl(prior, qz):
    """Return the divergence from a prior that looks neither at x nor at the encoder."""
    return prior.kl(qz, None, None)


@pytest.mark.parametrize("alpha", [1e-4, 0.01, 0.5, 0.999])
def test_spike_slab_kl_is_the_general_one_summed(alpha):
    q, zero = gated(scale=3), torch.zeros(5, dtype=torch.float64)
    slab, spike, *_ = kl(fixed(5, alpha), q)
    expected = kl_parts(q, SpikeAndSlab(zero, zero, gamma=zero + alpha))
    torch.testing.assert_close(slab, expected.slab.sum(-1))
    torch.testing.assert_close(spike, expected.spike.sum(-1))


def test_iclr_equation_nine():
    """The paper's own formula, in numbers."""
    g, mu, s2, a = 0.3, 0.8, 0.25, 0.1
    expected = g / 2 * (mu**2 + s2 - 1 - math.log(s2)) + (1 - g) * math.log((1 - g) / (1 - a)) + g * math.log(g / a)
    q = SpikeAndSlab(*(torch.tensor([[v]], dtype=torch.float64) for v in (mu, math.log(s2), g)))
    assert total(kl(fixed(1, a), q)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("prior", [fixed(5, 1.0), NormalPrior(5)])
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
    assert fixed(2, 1.0).log_prob(torch.tensor([[0.0, 1.0]]), None).item() == -math.inf


def test_normal_kl_is_torchs_summed():
    q = Normal(torch.randn(8, 5, dtype=torch.float64), torch.rand(8, 5, dtype=torch.float64) + 0.1)
    slab, spike, *_ = kl(NormalPrior(5), q)
    torch.testing.assert_close(slab, kl_divergence(q, Normal(0.0, 1.0)).sum(-1))
    assert spike.tolist() == [0] * 8


def test_kl_is_least_at_the_prior_itself(build, one):
    """At gamma = alpha, mu = m and s = t the divergence vanishes, and its gradient with it."""
    prior, _, posterior = build(one)
    p = prior.mixed(posterior, torch.float64)
    leaves = [part.detach().clone().requires_grad_() for part in (p.mu, p.logvar, p.spike_logits)]
    least = total(kl(prior, SpikeAndSlab(*leaves[:2], spike_logits=leaves[2])))
    assert least.item() == pytest.approx(0, abs=1e-12)
    assert max(g.abs().max() for g in torch.autograd.grad(least.sum(), leaves)) < 1e-12


def test_what_is_learned_starts_as_the_fixed_prior(named, one):
    q = gated((8, J))
    first, second = kl(named("fixed unit"), q), kl(named(one).double(), q)
    torch.testing.assert_close(second, first, rtol=1e-6, atol=1e-9)  # its logit was made in float32


def test_learned_alpha_is_best_at_the_mean_gamma(named):
    q, prior = gated((50, J)), named("learned unit").double()
    best = torch.logit(q.gamma.mean(0))

    def at(logits):
        with torch.no_grad():
            prior.gates.spike_logits.copy_(logits)
        return kl(prior, q).spike.mean()

    assert torch.autograd.grad(at(best), prior.gates.spike_logits)[0].abs().max() < 1e-12
    for shift in (-0.1, 0.1):
        assert at(best + shift) > at(best)


@pytest.mark.parametrize("gates", GATES)
def test_a_learned_slab_is_best_at_the_moments_of_what_is_on(build, gates):
    """
    Of posteriors that are given, m_j and t_j^2 are gamma-weighted means: of mu, and of s^2 + (mu - m)^2.

    Whatever the gates, and the choice among them: all components have the one slab.
    """
    prior, _, posterior = build(f"{gates} learned")
    q, x, slab = gated((50, J)), torch.randn(50, M, dtype=torch.float64), prior.own_slab
    weight = q.gamma / q.gamma.sum(0)
    m = (weight * q.mu).sum(0)
    logvar = (weight * (q.logvar.exp() + (q.mu - m).square())).sum(0).log()

    def at(m, logvar):
        with torch.no_grad():
            slab.mean.copy_(m)
            slab.logvar.copy_(logvar)
        return prior.kl(q, x, posterior).slab.mean()

    gradients = torch.autograd.grad(at(m, logvar), (slab.mean, slab.logvar))
    assert max(gradient.abs().max() for gradient in gradients) < 1e-12
    for shift in (-0.1, 0.1):
        assert at(m + shift, logvar) > at(m, logvar)
        assert at(m, logvar + shift) > at(m, logvar)


class TestOrigin:
    """A posterior's means are counted from a learned slab's, so that where the encoder says 0 the slab costs 0."""

    def model(self, prior):
        return VSC(nn.Linear(M, 3 * J), nn.Linear(J, M), shape=(M,), latent_dim=J, prior=prior)

    @pytest.mark.parametrize("gates", GATES)
    def test_an_encoder_that_says_nothing_is_charged_nothing_for_values(self, named, gates):
        model, x = self.model(named(f"{gates} learned", slab_mean=3.0)), torch.randn(7, M)
        with torch.no_grad():
            model.prior.own_slab.mean[0] = -5.0
            model.encoder.weight[: 2 * J] = model.encoder.bias[: 2 * J] = 0
        assert (model.posterior(x).mu == torch.tensor([-5.0, 3.0])).all()
        assert model(x).kl_slab.abs().max() < 1e-5
        assert (model(x).kl_spike > 0).all()

    def test_moving_the_slab_moves_the_posterior_and_costs_nothing(self, named):
        model, x = self.model(named("learned learned", slab_mean=1.0)), torch.randn(7, M)
        plain, before = model.encoder(x)[:, :J], model(x).kl_slab
        with torch.no_grad():
            model.prior.own_slab.mean += 2
        torch.testing.assert_close(model.posterior(x).mu, plain + 3)
        torch.testing.assert_close(model(x).kl_slab, before)
        torch.testing.assert_close(model.posterior(x, lam=0.0).mu, torch.full((7, J), 3.0))

    def test_other_slabs_have_none(self, named, pair):
        assert (named(pair).origin is None) == (not pair.endswith("learned"))


def test_thresholded_priors_start_at_alpha():
    prior = ThresholdedLaplacePrior(3, 0.2)
    torch.testing.assert_close(torch.exp(-prior.threshold), torch.full((3,), 0.2))
    normal = ThresholdedNormalPrior(3, 0.2)
    torch.testing.assert_close(torch.erfc(normal.threshold / math.sqrt(2)), torch.full((3,), 0.2))


@pytest.mark.parametrize("components", [1, U])
def test_penalty_is_the_bernoulli_kl_of_the_mean_gamma(named, components):
    """J KL(Bern(mean gamma of the components) || Bern(alpha)), and nothing at gamma = alpha; also of one component."""
    prior = named("mixture own", components=components).double()
    x, q = torch.zeros(6, M, dtype=torch.float64), gated((6, J))
    a = torch.tensor(ALPHA, dtype=torch.float64)
    g = defined(prior, None).gamma.mean()
    expected = J * (g * (g / a).log() + (1 - g) * ((1 - g) / (1 - a)).log())
    torch.testing.assert_close(prior.kl(q, x, None).penalty, expected.expand(6))
    with torch.no_grad():
        prior.gates.spike_logits.fill_(CERTAIN * torch.atanh(torch.logit(a) / CERTAIN))
    assert prior.kl(q, x, None).penalty.abs().max() < 1e-12


def test_nu_sharpens_the_gates_of_the_pseudo_inputs(build):
    """S(nu (gamma - 1/2)), as the released code has it; the slabs stay."""
    prior, _, posterior = build("pseudo-inputs own", nu=10.0)
    plain, sharp = posterior(prior.gates.pseudo_inputs), prior.mixed(posterior)
    torch.testing.assert_close(sharp.gamma, 1 / (1 + torch.exp(-10 * (plain.gamma - 0.5))))
    assert torch.equal(sharp.mu, plain.mu)
    assert torch.equal(sharp.logvar, plain.logvar)


def test_pseudo_inputs_start_at_examples(named):
    prior, x = named("pseudo-inputs unit"), torch.rand(U, M)
    assert prior.wants == U
    prior.start_at(x)
    assert torch.equal(prior.gates.pseudo_inputs, x)
    with pytest.raises(UsageError, match="there are 3"):
        prior.start_at(x[:3])


def test_a_learned_slab_starts_where_it_is_told(named, pair):
    prior = named(pair, slab_mean=-2.5)
    if prior.origin is not None:
        assert prior.origin.tolist() == [-2.5] * J
        assert prior.own_slab.logvar.tolist() == [0] * J


def test_what_each_latent_costs_is_the_mean_over_the_components_chosen(build, mixture):
    prior, x, posterior = build(mixture)
    q, p = posterior(x), defined(prior, posterior)
    wide = SpikeAndSlab(q.mu[:, None], q.logvar[:, None], spike_logits=q.spike_logits[:, None])
    every = sum(kl_parts(wide, p))  # (B, U, J)
    chosen = torch.softmax(-every.sum(-1), -1)  # the optimal selector's q(u|x)
    torch.testing.assert_close(prior.latent_kl(q, x, posterior), (chosen.unsqueeze(-1) * every).sum(1))


def test_gradients_are_finite_at_extreme_posteriors(build, pair):
    prior, x, posterior = build(pair, dtype=torch.float32)
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
        return fixed(J, ALPHA).kl(qz, x, posterior)

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


def test_pseudo_inputs_share_the_pass_of_the_batch_and_other_inputs_are_encoded(build):
    prior, x, posterior = build("pseudo-inputs own")
    calls = []
    qz, beside = prior.encoded(x, lambda inputs: calls.append(len(inputs)) or posterior(inputs))
    torch.testing.assert_close(prior.kl(qz, x, beside), prior.kl(posterior(x), x, posterior))
    assert calls == [len(x) + U]
    torch.testing.assert_close(beside(x[:2]).mu, posterior(x[:2]).mu)
    assert calls == [len(x) + U, 2]


def test_normal_samples():
    z = NormalPrior(4).sample(DRAWS, None)
    assert z.shape == (DRAWS, 4)
    assert (z.mean(0).abs() <= 4 / math.sqrt(DRAWS)).all()
    assert ((z.square().mean(0) - 1).abs() <= 4 * math.sqrt(2 / DRAWS)).all()


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.0, 1.1, math.nan])
def test_alpha_is_a_probability_above_zero(named, every, alpha):
    if every in ("normal", "laplace") or (alpha == 1 and every.startswith("fixed")):
        named(every, alpha=alpha)
    else:
        with pytest.raises(UsageError, match="alpha"):
            named(every, alpha=alpha)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mixture unit", {"components": 0}, "at least 1 component"),
        ("pseudo-inputs own", {"components": 0}, "at least 1 component"),
        *(("pseudo-inputs own", {"nu": nu}, "nu must be a positive number") for nu in (0.0, math.nan, math.inf)),
        ("mixture own", {"gate_init": math.nan}, "gate_init must be a finite number"),
        *(("fixed learned", {"slab_mean": mean}, "slab_mean must be a finite number") for mean in (math.nan, math.inf)),
        ("fixed own", {}, "slab own is for gates of several components"),
        ("learned own", {}, "slab own is for gates of several components"),
        ("mixture unit softmax", {"inputs": None}, "a selector that looks at x needs inputs"),
    ],
)
def test_refused(named, name, options, words):
    with pytest.raises(UsageError, match=words):
        named(name, **options)
