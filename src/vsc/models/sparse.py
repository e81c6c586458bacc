"""Models whose latents have gates: VSC and the thresholded Laplace. Each forward is read straight down."""

import math
from functools import partial

import torch
from torch import Tensor

from vsc import spikes
from vsc.bounds import Bound
from vsc.distributions import SpikeAndSlab, ThresholdedLaplace
from vsc.errors import choose
from vsc.models.base import Autoencoder, Codes
from vsc.nets import last_bias
from vsc.priors import Prior, SpikeSlabPrior, ThresholdedLaplacePrior


class VSC(Autoencoder):
    """
    Variational sparse coding: q(z|x) and p(z) are spike-and-slabs (ICLR eq. 4, 5).

    Parameters
    ----------
    *args, **kwargs
        As for `Autoencoder`.
    alpha : float
        Prior spike probability in (0, 1]; smaller is sparser. At 1 the gates are held open: the VAE.
    prior : Prior, optional
        p(z); by default the fixed spike-and-slab with `alpha`.
    spike_estimator : str
        Name in `spikes.SPIKES`.
    head : str
        Name in `HEADS`: how encoder outputs become spike logits.
    gate_init : float
        Spike logit at the start of training; 0 is gamma = 1/2, larger opens the gates.

    Raises
    ------
    UsageError
        If alpha is outside (0, 1] or a name is unknown, and as `Autoencoder`.
    """

    features = 3
    spiked = True

    def __init__(
        self,
        *args,
        alpha: float = 0.01,
        prior: Prior | None = None,
        spike_estimator: str = "straight-through",
        head: str = "logit",
        gate_init: float = 0.0,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.prior = SpikeSlabPrior(self.latent_dim, alpha) if prior is None else prior
        self.spikes = choose(spikes.SPIKES, spike_estimator, "spike estimator")
        self.head = open_gates if self.prior.gates_open else choose(HEADS, head, "head")
        with torch.no_grad():
            last_bias(self.encoder)[2 * self.latent_dim :] += gate_init

    def posterior(self, x: Tensor, lam: float = 1.0) -> SpikeAndSlab:
        """Return q_lambda(z|x), shape (B, J), of x (B, M) (UAI sec. 3.4)."""
        mu, logvar, v = (part.contiguous() for part in self.encoder(x).chunk(3, -1))  # strided exp is slow
        if lam < 1:  # the slab N(lam mu, lam s^2 + 1 - lam): variances are interpolated, not deviations
            mu, logvar = lam * mu, torch.log(lam * logvar.exp() + (1 - lam))
        return SpikeAndSlab(mu, logvar, spike_logits=self.head(v), validate_args=False)

    def forward(self, x, lam=1.0, relaxation=0.5):
        """Return the terms of the ELBO of x (B, M); in eval mode the spikes are hard, whatever the estimator."""
        estimate = self.spikes if self.training else spikes.hard
        both = self.posterior(self.prior.beside(x), lam)  # one encoder pass for x and the prior's pseudo-inputs
        qz, own = both.parted(len(x))  # q(z|x)  (B, J)        ICLR eq. 5
        log_px = estimate(qz, partial(self.log_px, x), relaxation)  # E_q log p(x|z)  (B,)
        kl = self.prior.kl(qz, x, lambda _: own)  # (B,)       ICLR eq. 9, UAI eq. 6
        return Bound(log_px, kl.slab, kl.spike, kl.selection, qz.gamma.sum(-1), kl.penalty)

    def codes(self, x):
        """Return z = gamma mu, gamma and mu."""
        qz = self.posterior(x)
        return Codes(qz.mean, qz.gamma, qz.mu)


class ThresholdedLaplaceVSC(Autoencoder):
    """
    Soft-thresholded Laplace latents, z = mu + soft_t(xi) with xi ~ Lap(0, b): an exact spike-and-slab.

    The thresholds t_j are learned and shared with the prior, so gamma = exp(-t / b) and alpha_j = exp(-t_j): the
    model learns how sparse each latent is (answering the course report's limitation 7.2.1).

    Parameters
    ----------
    *args, **kwargs
        As for `Autoencoder`.
    alpha : float
        Where every alpha_j = exp(-t_j) starts, in (0, 1); the gates themselves start at 1/2.
    spike_estimator : str
        Name in `spikes.SPIKES`.

    Raises
    ------
    UsageError
        If alpha is outside (0, 1) or a name is unknown, and as `Autoencoder`.
    """

    features = 2
    spiked = True

    def __init__(self, *args, alpha: float = 0.1, spike_estimator: str = "straight-through", **kwargs):
        super().__init__(*args, **kwargs)
        self.prior = ThresholdedLaplacePrior(self.latent_dim, alpha)
        self.spikes = choose(spikes.SPIKES, spike_estimator, "spike estimator")
        with torch.no_grad():
            last_bias(self.encoder)[self.latent_dim :] += math.log(-math.log(alpha) / math.log(2))

    def posterior(self, x: Tensor) -> ThresholdedLaplace:
        """Return q(z|x), shape (B, J), of x (B, M)."""
        mu, logscale = (part.contiguous() for part in self.encoder(x).chunk(2, -1))
        return ThresholdedLaplace(mu, logscale, self.prior.threshold, validate_args=False)  # pyright: ignore[reportArgumentType]

    def forward(self, x, lam=1.0, relaxation=0.5):
        """Return the terms of the ELBO of x (B, M); in eval mode the spikes are hard, whatever the estimator."""
        estimate = self.spikes if self.training else spikes.hard
        qz = self.posterior(x)  # q(z|x)  (B, J)
        log_px = estimate(qz, partial(self.log_px, x), relaxation)  # E_q log p(x|z)  (B,)
        kl = self.prior.kl(qz, x, self.posterior)
        return Bound(log_px, kl.slab, kl.spike, kl.selection, qz.gamma.sum(-1), kl.penalty)

    def codes(self, x):
        """Return z = gamma mu, gamma and mu."""
        qz = self.posterior(x)
        return Codes(qz.mean, qz.gamma, qz.mu)


def logit_head(v: Tensor) -> Tensor:
    """Take the encoder's output as the spike logit."""
    return v


def log_relu_head(v: Tensor) -> Tensor:
    """
    Return the logit of gamma where ln gamma = -ReLU(-v) (ICLR), kept 1e-6 below gamma = 1.

    For reproduction only: the gradient is exactly zero for v > 0, where half of the gates start.
    """
    log_gamma = -torch.relu(-v) - 1e-6
    return log_gamma - torch.log(-torch.expm1(log_gamma))


def open_gates(v: Tensor) -> Tensor:
    """Hold every gate open: an infinite spike logit."""
    return torch.full_like(v, math.inf)


HEADS = {"logit": logit_head, "log-relu": log_relu_head}
