"""Models whose latents have gates: VSC and the thresholded Laplace. Each forward is read straight down."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from vsc.errors import choose
from vsc.model import spikes
from vsc.model.base import Autoencoder, Codes
from vsc.model.bounds import Bound, decompose_kl
from vsc.model.distributions import SpikeAndSlab, ThresholdedLaplace
from vsc.model.nets import last_bias
from vsc.model.priors import Prior, SpikeSlabPrior, ThresholdedLaplacePrior
from vsc.model.spikes import SpikeEstimator


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
    off_value : float
        What the decoder is given for a latent that is off, at the start; learned from there (`OffValues`). At 0 the
        decoder is given the code as it is, always.

    Raises
    ------
    UsageError
        If alpha is outside (0, 1] or a name is unknown, and as `Autoencoder`.
    """

    features = 3
    spiked = True
    schedules = frozenset(
        {"beta", "slab_beta", "spike_beta", "price", "target_l0", "relaxation", "lam"} | {"total_correlation"}
    )

    def __init__(
        self,
        *args,
        alpha: float = 0.01,
        prior: Prior | None = None,
        spike_estimator: str = "straight-through",
        head: str = "logit",
        gate_init: float = 0.0,
        off_value: float = 0.0,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.prior = SpikeSlabPrior(self.latent_dim, alpha) if prior is None else prior
        self.spikes = choose(spikes.SPIKES, spike_estimator, "spike estimator")
        self.head = open_gates if self.prior.gates_open else choose(HEADS, head, "head")
        with torch.no_grad():
            last_bias(self.encoder)[2 * self.latent_dim :] += gate_init
        if off_value:
            self.decoder = nn.Sequential(OffValues(self.latent_dim, off_value), self.decoder)
        self.correlated = False  # whether training asks for the total correlation, which takes B x B x J numbers

    def posterior(self, x: Tensor, lam: float = 1.0) -> SpikeAndSlab:
        """Return q_lambda(z|x), shape (B, J), of x (B, M) (UAI sec. 3.4)."""
        mu, logvar, v = (part.contiguous() for part in self.encoder(x).chunk(3, -1))  # strided exp is slow
        if lam < 1:  # the slab N(lam mu, lam s^2 + 1 - lam): variances are interpolated, not deviations
            mu, logvar = lam * mu, torch.log(lam * logvar.exp() + (1 - lam))
        return SpikeAndSlab(mu, logvar, spike_logits=self.head(v), validate_args=False)

    def forward(self, x, lam=1.0, relaxation=0.5):
        """Return the terms of the ELBO of x (B, M); in eval mode the spikes are hard, whatever the estimator."""
        estimate = self.spikes if self.training else spikes.hard
        # q(z|x)  (B, J)       ICLR eq. 5; a prior's pseudo-inputs pass the encoder beside x
        qz, posterior = self.prior.encoded(x, partial(self.posterior, lam=lam))
        log_px = self._expected_log_px(estimate, qz, x, relaxation)  # E_q log p(x|z)  (B,)
        kl = self.prior.kl(qz, x, posterior)  # (B,)       ICLR eq. 9, UAI eq. 6
        tc = slab_correlation(qz) if self.correlated and self.training else torch.zeros_like(log_px)
        return Bound(log_px, kl.slab, kl.spike, kl.selection, qz.gamma.sum(-1), kl.penalty, tc)

    def _expected_log_px(self, estimate: SpikeEstimator, qz: SpikeAndSlab, x: Tensor, relaxation: float) -> Tensor:
        """Estimate E_q log p(x|z), (B,); an off value is where a gate that shuts takes its latent."""
        first = next(self.decoder.children())
        if not isinstance(first, OffValues):
            return estimate(qz, partial(self.log_px, x), relaxation)
        off = first.value
        centred = SpikeAndSlab(qz.mu - off, qz.logvar, spike_logits=qz.spike_logits, validate_args=False)
        return estimate(centred, lambda z: self.log_px(x, z + off), relaxation)  # w (slab - off) + off

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
    schedules = frozenset({"beta", "slab_beta", "spike_beta", "price", "target_l0", "relaxation", "prior_lr"})

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
        zero = torch.zeros_like(log_px)
        return Bound(log_px, kl.slab, kl.spike, kl.selection, qz.gamma.sum(-1), kl.penalty, zero)

    def codes(self, x):
        """Return z = gamma mu, gamma and mu."""
        qz = self.posterior(x)
        return Codes(qz.mean, qz.gamma, qz.mu)


class OffValues(nn.Module):
    """
    Give the decoder a learned value for each latent that is exactly zero, and the others as they are.

    A spike at zero lies in the middle of the slab, so that "off" reads as an average value. A value of its own lets a
    shut gate say that something is absent. It changes p(x|z) only: codes keep their zeros.

    Parameters
    ----------
    latent_dim : int
        J.
    start : float
        The value of each at the start.
    """

    def __init__(self, latent_dim: int, start: float):
        super().__init__()
        self.value = nn.Parameter(torch.full((latent_dim,), start))

    def forward(self, z: Tensor) -> Tensor:
        """Return what the decoder is given of z, (B, J) each."""
        return torch.where(z == 0, self.value.to(z.dtype), z)


def slab_correlation(qz: SpikeAndSlab) -> Tensor:
    """
    Return the total correlation of the slabs in a batch, by minibatch-weighted sampling (Chen et al. 2018).

    A latent that is off has no value; one drawn from N(0, 1), the slab of the prior, takes its place. So only what
    values say of each other counts, and not that the gates of one thing open together. Half of the batch is looked at.

    Parameters
    ----------
    qz : SpikeAndSlab, shape (B, J)
        The posterior.

    Returns
    -------
    torch.Tensor, shape (B,)
        The estimate in nats, the same for every example. Its gradient does not reach the gates.
    """
    half = max(1, len(qz.mu) // 2)
    on = torch.bernoulli(qz.gamma[:half].detach())
    mu, logvar = on * qz.mu[:half], on * qz.logvar[:half]  # (B/2, J)
    slab = Normal(mu, (0.5 * logvar).exp(), validate_args=False)
    z = slab.rsample()
    log_q = slab.log_prob(z.unsqueeze(1))  # ln q(z_ij | x_k)  (B/2, B/2, J)
    tc = decompose_kl(z, log_q, torch.zeros_like(mu[:, 0])).total_correlation
    return tc.mean().expand(len(qz.mu))


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
