"""Models whose latents are all on: AE, VAE, beta-TCVAE and the Laplace VAE."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Laplace, Normal

from vsc.errors import UsageError
from vsc.model.base import Autoencoder, Codes
from vsc.model.bounds import simple, total_correlation
from vsc.model.distributions import WIDEST, laplace_like
from vsc.model.priors import LaplacePrior, NormalPrior
from vsc.model.priors.single import SinglePrior


class Unbounded(Autoencoder, ABC):
    """An autoencoder with one code of an example, and no prior that it could be drawn from: it has no bound."""

    bounded = False

    def sample_code(self, n):
        """Refuse: there is no prior."""
        raise UsageError(f"{_a(self)} has no prior to sample from; train a VAE or a VSC")

    def weighted(self, x, draws):
        """Return the one code that there is, with weight 1."""
        z = self.codes(x).z[None]
        return z, z.new_zeros(z.shape[:2])

    def log_weights(self, x, draws):
        """Refuse: there is no bound."""
        raise UsageError(f"{_a(self)} has no bound on log p(x); train a VAE or a VSC")


class AE(Unbounded):
    """
    Autoencoder: z = encoder(x), maximise log p(x|z). No distribution over z, so no bound and no prior.

    Takes the parameters of `Autoencoder`.
    """

    features = 1

    def forward(self, x, lam=1.0, relaxation=None):
        """Return log p(x|z) of x (B, M) with zero KL."""
        z = self.from_encoder(x)
        return simple(self.log_px(x, z), torch.ones_like(z))

    def codes(self, x):
        """Return z = mu = encoder(x), gamma = 1."""
        return _codes(self.from_encoder(x))


class Dense(Autoencoder, ABC):
    """
    A model with q(z|x) and p(z) of one family, at loc + scale * `noise`; all latents are on.

    Takes the parameters of `Autoencoder`.
    """

    features = 2
    schedules = frozenset({"beta"})
    own_prior: type[SinglePrior] = NormalPrior
    noise: Callable[..., Tensor] = staticmethod(torch.randn_like)

    def begin(self):
        self.prior = self.own_prior(self.latent_dim)

    @abstractmethod
    def posterior(self, x: Tensor) -> Any:
        """Return q(z|x), shape (B, J), of x (B, M)."""

    def forward(self, x, lam=1.0, relaxation=None):
        """Return the terms of the ELBO of x (B, M)."""
        qz = self.posterior(x)  # q(z|x)  (B, J)
        z = qz.loc + qz.scale * self.noise(qz.loc)
        log_px = self.log_px(x, z)  # E_q log p(x|z)  (B,)
        kl = self.prior.kl(qz, x, self.posterior).slab
        return simple(log_px, torch.ones_like(z), kl, total_correlation=self.correlation(qz, z))

    def correlation(self, qz: Any, z: Tensor) -> Tensor | None:
        """Return the total correlation of the batch, (B,), if it is measured."""
        return None

    def codes(self, x):
        """Return z = mu, gamma = 1."""
        return _codes(self.posterior(x).loc)


class VAE(Dense):
    """
    Variational autoencoder: q(z|x) = N(mu, s^2), p(z) = N(0, I). With beta != 1 in training, the beta-VAE.

    Takes the parameters of `Autoencoder`.
    """

    def posterior(self, x):
        return normal(self.from_encoder(x))


class TCVAE(Dense):
    """
    beta-TCVAE: a VAE whose total correlation is penalised by itself (Chen et al. 2018).

    The total correlation of a batch is that of minibatch-weighted sampling; a `train.total_correlation` of beta - 1 on
    top of the ELBO gives it the weight beta. Takes the parameters of `Autoencoder`.
    """

    schedules = frozenset({"beta", "total_correlation"})

    def posterior(self, x):
        return normal(self.from_encoder(x))

    def correlation(self, qz, z):
        """Return it in training: only the loss needs it, and it takes B x B x J numbers."""
        return total_correlation(qz.log_prob(z.unsqueeze(1))) if self.training else None


class LaplaceVAE(Dense):
    """
    VAE with Laplace slabs and prior: q(z|x) = Lap(mu, b), p(z) = Lap(0, 1). Dense, but softly sparse.

    Takes the parameters of `Autoencoder`.
    """

    own_prior, noise = LaplacePrior, staticmethod(laplace_like)

    def posterior(self, x):
        mu, logscale = self.from_encoder(x).chunk(2, -1)
        return Laplace(mu, logscale.clamp(-WIDEST / 2, WIDEST / 2).exp(), validate_args=False)


def normal(out: Tensor) -> Normal:
    """Return N(mu, s^2) of an encoder's output, mu beside ln s^2, (B, 2 J)."""
    mu, logvar = out.chunk(2, -1)
    return Normal(mu, (0.5 * logvar.clamp(-WIDEST, WIDEST)).exp(), validate_args=False)


def _codes(mu: Tensor) -> Codes:
    return Codes(mu, torch.ones_like(mu), mu)


def _a(model: Autoencoder) -> str:
    """Name a kind of model with its article."""
    name = type(model).__name__
    return f"{'an' if name.startswith('A') else 'a'} {name}"
