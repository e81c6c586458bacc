"""The ELBO against log-likelihoods that are known: linear decoders with Gaussian noise."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from vsc.bounds import Bound
from vsc.likelihoods import GaussianFixed
from vsc.models import VAE, VSC

M, VARIANCE, ALPHA, DRAWS = 4, 0.3, 0.3, 20_000


def linear_model(kind, J, **options):
    """Build a model whose encoder and decoder are one linear layer each, in float64."""
    model = kind((M,), J, hidden=(), likelihood=GaussianFixed(VARIANCE), **options).double().eval()
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
    """ln p(x) in nats, (B,): a mixture over all 2^J gates of N(b, W_w W_w^T + v I)."""
    W, b = (p.detach().numpy() for p in (model.decoder[0].weight, model.decoder[0].bias))
    terms = []
    for w in itertools.product((0, 1), repeat=W.shape[1]):
        if alpha == 1 and not all(w):
            continue
        on = W[:, np.array(w, dtype=bool)]
        weight = sum(math.log(alpha) if gate else math.log1p(-alpha) for gate in w)
        density = multivariate_normal(b, on @ on.T + VARIANCE * np.eye(M))
        terms.append(weight + density.logpdf(x.numpy()))
    return torch.as_tensor(logsumexp(terms, axis=0)).reshape(len(x))


def mean_elbo(model, x):
    """Mean ELBO and its standard error over draws, (B,) each."""
    with torch.no_grad():
        elbo = model(x.repeat(DRAWS, 1)).elbo.reshape(DRAWS, len(x))
    return elbo.mean(0), elbo.std(0) / math.sqrt(DRAWS)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [VAE, VSC])
def test_elbo_never_exceeds_the_log_likelihood(kind, seed):
    torch.manual_seed(seed)
    J = 2 + seed % 2
    alpha = 1 if kind is VAE else ALPHA
    model = linear_model(kind, J, **({} if kind is VAE else {"alpha": ALPHA}))
    x = torch.randn(5, M, dtype=torch.float64)
    elbo, error = mean_elbo(model, x)
    assert (elbo <= exact(model, x, alpha) + 4 * error).all()


def test_training_draws_of_straight_through_are_a_bound_too():
    model = linear_model(VSC, 3, alpha=ALPHA).train()
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


@pytest.mark.parametrize("J", [1, 2, 3])
def test_vsc_elbo_is_exact_at_the_true_posterior(J):
    """With orthogonal columns the gates' posterior factorises: Bayes' rule for each latent on its own."""
    model = linear_model(VSC, J, alpha=ALPHA)
    W = orthogonal_decoder(model, J)
    x = torch.randn(1, M, dtype=torch.float64)
    precision = 1 + W.square().sum(0) / VARIANCE
    mu = W.T @ (x[0] - model.decoder[0].bias.detach()) / VARIANCE / precision
    # ln of p(x | gate open) / p(x | gate shut): the slab integrated out
    evidence = 0.5 * (mu.square() * precision - precision.log())
    with torch.no_grad():
        model.encoder[0].weight.zero_()
        model.encoder[0].bias.copy_(torch.cat([mu, -precision.log(), evidence + math.log(ALPHA / (1 - ALPHA))]))
    elbo, error = mean_elbo(model, x)
    assert error.max() < 0.05
    assert ((elbo - exact(model, x, ALPHA)).abs() <= 4 * error).all()


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


def test_bound_arithmetic():
    bound = Bound(torch.tensor([-10.0, -20.0]), torch.tensor([1.0, 2.0]), torch.tensor([0.5, 4.0]))
    assert bound.kl.tolist() == [1.5, 6]
    assert bound.elbo.tolist() == [-11.5, -26]
    assert bound.weighted().tolist() == [-11.5, -26]
    assert bound.weighted(0).tolist() == [-10, -20]
    assert bound.weighted(4).tolist() == [-16, -44]
