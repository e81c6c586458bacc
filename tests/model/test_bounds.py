"""The ELBO against log-likelihoods that are known: linear decoders with Gaussian noise."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from torch.distributions import Normal

from vsc.model import TCVAE, VAE, VSC, LaplaceVAE, ThresholdedLaplaceVSC, ThresholdedNormalVSC
from vsc.model.bounds import TERMS, Bound, importance_weighted, simple, total_correlation
from vsc.model.likelihoods import GaussianFixed
from vsc.model.nets import mlp
from vsc.model.priors import FixedGates, NormalPrior, SpikeSlabPrior

M, VARIANCE, ALPHA, DRAWS = 4, 0.3, 0.3, 20_000


def made(kind, shape, latent_dim, hidden=(), **options):
    """Build a model with fully connected nets."""
    outputs = options["likelihood"].outputs if options.get("likelihood") else 1
    nets = mlp(shape, kind.features * latent_dim, latent_dim, outputs, hidden)
    return kind(*nets, shape=shape, latent_dim=latent_dim, **options)


def fixed(J, alpha=ALPHA):
    return SpikeSlabPrior(FixedGates(J, alpha))


def linear_model(kind, J, **options):
    """Build a model whose encoder and decoder are one linear layer each, in float64."""
    model = made(kind, (M,), J, likelihood=GaussianFixed(VARIANCE), **options).double().eval()
    with torch.no_grad():
        for layer in (model.encoder[0], model.decoder[0]):
            layer.weight.copy_(torch.randn_like(layer.weight) * 0.7)
            layer.bias.copy_(torch.randn_like(layer.bias) * 0.5)
    return model


def orthogonal_decoder(model, J):
    """Give the decoder orthogonal columns, for which the true posterior is independent over latents."""
    W = torch.linalg.qr(torch.randn(M, J, dtype=torch.float64)).Q * torch.tensor([1.5, 0.8, 0.5][:J])
    with torch.no_grad():
        model.decoder[0].weight.copy_(W)
    return W


def exact(model, x, alpha):
    """ln p(x) in nats, (B,), where p(z) is alpha N(0, 1) + (1 - alpha) delta_0 in every dimension."""
    zero = np.zeros((1, model.latent_dim))
    return exact_mixture(model, x, zero, zero + 1, zero + alpha)


def exact_mixture(model, x, m, t2, pi):
    """ln p(x) in nats, (B,): over all U components and 2^J gates, a mixture of N(b + W_w m, W_w T W_w^T + v I)."""
    W, b = (p.detach().numpy() for p in (model.decoder[0].weight, model.decoder[0].bias))
    terms = []
    for u, w in itertools.product(range(len(m)), itertools.product((False, True), repeat=W.shape[1])):
        w = np.array(w)
        weight = np.prod(np.where(w, pi[u], 1 - pi[u])) / len(m)
        if weight > 0:
            on = W[:, w]
            density = multivariate_normal(b + on @ m[u][w], on * t2[u][w] @ on.T + VARIANCE * np.eye(M))
            terms.append(math.log(weight) + density.logpdf(x.numpy()))
    return torch.as_tensor(logsumexp(terms, axis=0)).reshape(len(x))


def mean_elbo(model, x):
    """Mean ELBO and its standard error over draws, (B,) each."""
    with torch.no_grad():
        elbo = model(x.repeat(DRAWS, 1)).elbo.reshape(DRAWS, len(x))
    return elbo.mean(0), elbo.std(0) / math.sqrt(DRAWS)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", [VAE, VSC])
def test_elbo_never_exceeds_the_log_likelihood(kind, seed):
    torch.manual_seed(seed)
    J = 2 + seed % 2
    alpha = 1 if kind is VAE else ALPHA
    model = linear_model(kind, J, **({} if kind is VAE else {"prior": fixed(J)}))
    x = torch.randn(5, M, dtype=torch.float64)
    elbo, error = mean_elbo(model, x)
    assert (elbo <= exact(model, x, alpha) + 4 * error).all()


def test_training_draws_of_straight_through_are_a_bound_too():
    model = linear_model(VSC, 3, prior=fixed(3)).train()
    x = torch.randn(5, M, dtype=torch.float64)
    elbo, error = mean_elbo(model, x)
    assert (elbo <= exact(model, x, ALPHA) + 4 * error).all()
    hard, hard_error = mean_elbo(model.eval(), x)
    assert ((elbo - hard).abs() <= 4 * (error.square() + hard_error.square()).sqrt()).all()


@pytest.mark.parametrize("J", [1, 2, 3])
def test_vae_elbo_is_exact_at_the_true_posterior(J):
    model = linear_model(VAE, J)
    W = orthogonal_decoder(model, J)
    covariance = torch.linalg.inv(torch.eye(J, dtype=torch.float64) + W.T @ W / VARIANCE)
    to_mean = covariance @ W.T / VARIANCE
    with torch.no_grad():
        model.encoder[0].weight.copy_(torch.cat([to_mean, torch.zeros(J, M)]))
        model.encoder[0].bias.copy_(torch.cat([-to_mean @ model.decoder[0].bias, covariance.diag().log()]))
    x = torch.randn(5, M, dtype=torch.float64)
    elbo, error = mean_elbo(model, x)
    assert error.max() < 0.05
    assert ((elbo - exact(model, x, 1)).abs() <= 4 * error).all()


@pytest.mark.parametrize("slab", ["unit", "learned"])
@pytest.mark.parametrize("J", [1, 2, 3])
def test_vsc_elbo_is_exact_at_the_true_posterior(named, J, slab):
    """With orthogonal columns the gates' posterior factorises: Bayes' rule for each latent on its own."""
    model = linear_model(VSC, J, prior=named(f"fixed {slab}", latent_dim=J))
    m, logvar = torch.zeros(2, J, dtype=torch.float64)
    if slab == "learned":
        m, logvar = torch.tensor([2.0, -1, 0.5])[:J].double(), torch.tensor([0.5, -1, 1])[:J].double()
        model.prior.own_slab.load_state_dict({"mean": m, "logvar": logvar})
    W = orthogonal_decoder(model, J)
    x = torch.randn(1, M, dtype=torch.float64)
    precision = 1 / logvar.exp() + W.square().sum(0) / VARIANCE
    mu = (m / logvar.exp() + W.T @ (x[0] - model.decoder[0].bias.detach()) / VARIANCE) / precision
    # ln of p(x | gate open) / p(x | gate shut): the slab integrated out
    evidence = 0.5 * (mu.square() * precision - m.square() / logvar.exp() - precision.log() - logvar)
    with torch.no_grad():
        model.encoder[0].weight.zero_()
        model.encoder[0].bias.copy_(torch.cat([mu - m, -precision.log(), evidence + math.log(ALPHA / (1 - ALPHA))]))
    truth = exact_mixture(model, x, *(part.numpy()[None] for part in (m, logvar.exp(), torch.full_like(m, ALPHA))))
    elbo, error = mean_elbo(model, x)
    assert error.max() < 0.05
    assert ((elbo - truth).abs() <= 4 * error).all()
    # every importance weight is then p(x) itself, whatever the draw, and so is their mean
    with torch.no_grad():
        log_weights = model.log_weights(x, 500)
    assert log_weights.std() < 1e-9
    torch.testing.assert_close(importance_weighted(log_weights), truth, rtol=0, atol=1e-9)


def test_elbo_falls_by_the_divergence_from_the_true_posterior():
    """Moving the posterior mean by d costs exactly d^2 / 2 s^2 nats."""
    model = linear_model(VAE, 1)
    W = orthogonal_decoder(model, 1)
    x = torch.randn(1, M, dtype=torch.float64)
    precision = 1 + W.square().sum(0) / VARIANCE
    mu = W.T @ (x[0] - model.decoder[0].bias.detach()) / VARIANCE / precision
    with torch.no_grad():
        model.encoder[0].weight.zero_()
        model.encoder[0].bias.copy_(torch.cat([mu + 0.4, -precision.log()]))
    elbo, error = mean_elbo(model, x)
    gap = exact(model, x, 1) - elbo
    assert abs(gap - 0.5 * 0.4**2 * precision) <= 4 * error


def pool(model, x, draws=64 * 400):
    """Importance weights (draws, B), drawn once: enough for means over many groups of K."""
    with torch.no_grad():
        return model.log_weights(x, draws)


def groups(log_weights, K):
    """Importance-weighted bounds of K draws each, (groups, B)."""
    return importance_weighted(log_weights.unflatten(0, (-1, K)).transpose(0, 1))


def standard_error(draws):
    return draws.std(0) / math.sqrt(len(draws))


@pytest.mark.parametrize(("kind", "options"), [(VAE, {}), (VSC, {"prior": fixed(3)})], ids=["vae", "vsc"])
def test_importance_weighted_bound_rises_to_the_log_likelihood(kind, options):
    model, x = linear_model(kind, 3, **options), torch.randn(4, M, dtype=torch.float64)
    log_weights, truth = pool(model, x), exact(model, x, ALPHA if options else 1)
    bounds = {K: groups(log_weights, K) for K in (1, 4, 16, 64)}
    for few, many in itertools.pairwise(bounds.values()):
        error = (standard_error(few).square() + standard_error(many).square()).sqrt()
        assert (many.mean(0) >= few.mean(0) - 4 * error).all()
        assert (many.mean(0) <= truth + 4 * standard_error(many)).all()
    # this posterior is far from the true one, so there is room to rise
    assert (bounds[64].mean(0) > bounds[1].mean(0) + 4 * standard_error(bounds[1])).all()


SINGLE = {
    "vae": (VAE, {}),
    "tcvae": (TCVAE, {}),
    "laplace": (LaplaceVAE, {}),
    "thresholded-laplace": (ThresholdedLaplaceVSC, {"alpha": ALPHA}),
    "thresholded-normal": (ThresholdedNormalVSC, {"alpha": ALPHA}),
    "vsc-open": (VSC, {"prior": fixed(2, 1.0)}),
    "vsc-normal": (VSC, {"prior": NormalPrior(2)}),
}


@pytest.mark.parametrize("name", SINGLE)
def test_one_importance_weight_is_the_elbo(name):
    """The analytic divergence and the densities at draws must tell the same."""
    kind, options = SINGLE[name]
    agrees(linear_model(kind, 2, **options))


def agrees(model):
    x = torch.randn(3, M, dtype=torch.float64)
    elbo, error = mean_elbo(model, x)
    one = groups(pool(model, x, DRAWS), 1)
    assert ((one.mean(0) - elbo).abs() <= 4 * (error.square() + standard_error(one).square()).sqrt()).all()


def test_one_importance_weight_is_the_elbo_of_every_prior_of_one_component(build, one):
    agrees(linear_model(VSC, 2, prior=build(one)[0]))


def test_elbo_weighted_bound_and_log_likelihood_keep_their_order(build, case):
    """The choice of a component is charged; the weighted bound sums it out; the truth sums out everything."""
    prior = build(case)[0]
    model, x = linear_model(VSC, 2, prior=prior), torch.randn(4, M, dtype=torch.float64)
    with torch.no_grad():
        parts = prior.mixed(model.posterior)
        slabs = (part.expand_as(parts.gamma) for part in (parts.mu, parts.logvar.exp()))
        truth = exact_mixture(model, x, *(a.numpy() for a in (*slabs, parts.gamma)))
    elbo, error = mean_elbo(model, x)
    weighted = groups(pool(model, x, 50 * 300), 50)
    assert (elbo <= weighted.mean(0) + 4 * (error.square() + standard_error(weighted).square()).sqrt()).all()
    assert (weighted.mean(0) <= truth + 4 * standard_error(weighted)).all()


def test_weighted_bound_of_extreme_weights():
    """ln of the mean of e^1000 and 0 is 1000 - ln 2."""
    log_weights = torch.tensor([[1000.0, -1000.0], [-math.inf, -1000.0]], dtype=torch.float64)
    assert importance_weighted(log_weights).tolist() == pytest.approx([1000 - math.log(2), -1000])


def bound_of_two():
    gamma = torch.tensor([[0.5, 1.0, 1.5], [3.0, 0.0, 4.0]], dtype=torch.float64)
    terms = ([-10, -20], [1, 2], [0.5, 4], [0.25, 1], gamma, [2, 0.5], [8, 16])
    return Bound(*(torch.as_tensor(term, dtype=torch.float64) for term in terms))


def test_terms_of_a_bound():
    bound = bound_of_two()
    assert bound.l0.tolist() == [3, 7]
    assert bound.kl.tolist() == [1.75, 7]
    assert bound.elbo.tolist() == [-11.75, -27]
    assert dict(zip(TERMS, bound.terms.T.tolist(), strict=True)) == {
        "log_px": [-10, -20],
        "kl_slab": [1, 2],
        "kl_spike": [0.5, 4],
        "kl_selection": [0.25, 1],
        "l0": [3, 7],
    }


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({}, [-11.75, -27]),
        ({"beta": 0}, [-10, -20]),
        ({"beta": 4}, [-17, -48]),
        ({"penalty": 3}, [-17.75, -28.5]),
        ({"total_correlation": 0.25}, [-13.75, -31]),
        ({"prices": [0.5, 0.5, 0.5]}, [-13.25, -30.5]),  # half of l0
        ({"prices": [2, -1, 0]}, [-11.75, -33]),  # 2 * 0.5 - 1 * 1 and 2 * 3
        ({"beta": 4, "prices": [0, 0, 2], "penalty": 0.5, "total_correlation": 0.25}, [-23, -60.25]),
    ],
)
def test_weights_of_a_bound(weights, expected):
    if "prices" in weights:
        weights = weights | {"prices": torch.tensor(weights["prices"])}
    assert bound_of_two().weighted(**weights).tolist() == expected


def test_what_a_simple_bound_is_not_given_is_zero():
    log_px, kl, tc = torch.randn(3, 6).unbind(0)
    bound = simple(log_px, torch.ones(6, 5), kl)
    torch.testing.assert_close(bound.elbo, log_px - kl)
    for term in (bound.kl_spike, bound.kl_selection, bound.penalty, bound.total_correlation):
        assert term.tolist() == [0] * 6
    assert torch.equal(simple(log_px, bound.gamma, kl, tc, -tc).penalty, tc)
    assert torch.equal(simple(log_px, bound.gamma, kl, tc, -tc).total_correlation, -tc)


class TestTotalCorrelation:
    """That of a batch, at z_i ~ q(z|x_i) = N(mu_i, s_i^2)."""

    def measured(self, mu, logvar, eps):
        q = Normal(mu, (0.5 * logvar).exp())
        return total_correlation(q.log_prob((mu + (0.5 * logvar).exp() * eps).unsqueeze(1)))

    def test_it_is_that_of_the_definition(self):
        """q(z) as the batch's mixture of scipy's densities, 1 / B each; so for every q(z_j)."""
        mu, logvar, eps = torch.randn(3, 6, 3, dtype=torch.float64).unbind(0)
        tc, m, s = self.measured(mu, logvar, eps), mu.numpy(), np.exp(0.5 * logvar.numpy())
        for i in range(6):
            each = norm.pdf(m[i] + s[i] * eps[i].numpy(), m, s)  # q(z_ij | x_k)  (k, j)
            expected = math.log(each.prod(1).sum() / 6) - np.log(each.sum(0) / 6).sum()
            assert tc[i].item() == pytest.approx(expected)

    @pytest.mark.parametrize("correlation", [0.0, 0.9])
    def test_total_correlation_of_a_correlated_gaussian(self, correlation):
        """
        With N(0, C) means and variance s^2, q(z) = N(0, C + s^2 I) and TC = -ln(1 - r^2) / 2, r = c / (1 + s^2).

        Tolerance: 4 standard errors over examples and 0.02 nats for the own component, which weighs 1 / B in the
        batch's mixture.
        """
        B, s2 = 2000, 0.3
        root = torch.linalg.cholesky(torch.tensor([[1, correlation], [correlation, 1]], dtype=torch.float64))
        mu = torch.randn(B, 2, dtype=torch.float64) @ root.T
        logvar = torch.full_like(mu, math.log(s2))
        tc = self.measured(mu, logvar, torch.randn_like(mu))
        expected = -0.5 * math.log(1 - (correlation / (1 + s2)) ** 2)
        tolerance = 4 * standard_error(tc) + 0.02
        assert abs(tc.mean() - expected) <= tolerance
        assert tolerance < 0.1

    def test_it_enters_the_loss_and_no_bound(self):
        x = torch.randn(8, M, dtype=torch.float64)
        bounds = []
        for kind in (VAE, TCVAE):
            torch.manual_seed(1)
            model = linear_model(kind, 2).train()
            bounds.append(model(x))
        vae, tcvae = bounds
        torch.testing.assert_close(tcvae.elbo, vae.elbo)
        torch.testing.assert_close(tcvae.weighted(), vae.elbo)
        assert (tcvae.total_correlation != 0).all()
        torch.testing.assert_close(tcvae.weighted(total_correlation=5), vae.elbo - 5 * tcvae.total_correlation)
        assert (model.eval()(x).total_correlation == 0).all()  # only the loss needs it
