"""Models whose latents are all on: AE, VAE, beta-TCVAE and the Laplace VAE. Each forward is read straight down."""

from abc import ABC

import torch
from torch import Tensor
from torch.distributions import Laplace, Normal

from vsc.errors import UsageError
from vsc.model.base import Autoencoder, Codes
from vsc.model.bounds import decompose_kl, dense
from vsc.model.distributions import WIDEST, laplace_like
from vsc.model.priors import LaplacePrior, NormalPrior


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
        log_px = self.log_px(x, self.from_encoder(x))  # (B,)
        return dense(log_px, torch.zeros_like(log_px), self.latent_dim)

    def codes(self, x):
        """Return z = mu = encoder(x), gamma = 1."""
        return _codes(self.from_encoder(x))


class VAE(Autoencoder):
    """
    Variational autoencoder: q(z|x) = N(mu, s^2), p(z) = N(0, I). With beta != 1 in training, the beta-VAE.

    Takes the parameters of `Autoencoder`.
    """

    features = 2
    schedules = frozenset({"beta"})
    own_prior = NormalPrior

    def posterior(self, x: Tensor) -> Normal:
        """Return q(z|x), shape (B, J), of x (B, M)."""
        return normal(self.from_encoder(x))

    def forward(self, x, lam=1.0, relaxation=None):
        """Return the terms of the ELBO of x (B, M)."""
        qz = self.posterior(x)  # q(z|x)  (B, J)
        log_px = self.log_px(x, qz.loc + qz.scale * torch.randn_like(qz.loc))  # E_q log p(x|z)  (B,)
        return dense(log_px, self.prior.kl(qz, x, self.posterior).slab, self.latent_dim)

    def codes(self, x):
        """Return z = mu, gamma = 1."""
        return _codes(self.posterior(x).loc)


class TCVAE(Autoencoder):
    """
    beta-TCVAE: a VAE whose total correlation is penalised by itself (Chen et al. 2018).

    The total correlation of a batch is that of minibatch-weighted sampling; a `train.total_correlation` of beta - 1 on
    top of the ELBO gives it the weight beta. Takes the parameters of `Autoencoder`.
    """

    features = 2
    schedules = frozenset({"beta", "total_correlation"})
    own_prior = NormalPrior

    def posterior(self, x: Tensor) -> Normal:
        """Return q(z|x), shape (B, J), of x (B, M)."""
        return normal(self.from_encoder(x))

    def forward(self, x, lam=1.0, relaxation=None):
        """Return the terms of the ELBO of x (B, M), and the total correlation of the batch."""
        qz = self.posterior(x)  # q(z|x)  (B, J)
        z = qz.loc + qz.scale * torch.randn_like(qz.loc)
        log_px = self.log_px(x, z)  # E_q log p(x|z)  (B,)
        kl = self.prior.kl(qz, x, self.posterior).slab
        if not self.training:  # only the loss needs it, and it takes B x B x J numbers
            return dense(log_px, kl, self.latent_dim)
        log_q = qz.log_prob(z.unsqueeze(1))  # ln q(z_ij | x_k)  (B, B, J)
        tc = decompose_kl(z, log_q, self.prior.log_prob(z, self.posterior)).total_correlation
        return dense(log_px, kl, self.latent_dim, tc)

    def codes(self, x):
        """Return z = mu, gamma = 1."""
        return _codes(self.posterior(x).loc)


class LaplaceVAE(Autoencoder):
    """
    VAE with Laplace slabs and prior: q(z|x) = Lap(mu, b), p(z) = Lap(0, 1). Dense, but softly sparse.

    Takes the parameters of `Autoencoder`.
    """

    features = 2
    schedules = frozenset({"beta"})
    own_prior = LaplacePrior

    def posterior(self, x: Tensor) -> Laplace:
        """Return q(z|x), shape (B, J), of x (B, M)."""
        mu, logscale = self.from_encoder(x).chunk(2, -1)
        return Laplace(mu, logscale.clamp(-WIDEST / 2, WIDEST / 2).exp(), validate_args=False)

    def forward(self, x, lam=1.0, relaxation=None):
        """Return the terms of the ELBO of x (B, M)."""
        qz = self.posterior(x)  # q(z|x)  (B, J)
        log_px = self.log_px(x, qz.loc + qz.scale * laplace_like(qz.loc))  # E_q log p(x|z)  (B,)
        return dense(log_px, self.prior.kl(qz, x, self.posterior).slab, self.latent_dim)

    def codes(self, x):
        """Return z = mu, gamma = 1."""
        return _codes(self.posterior(x).loc)


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
