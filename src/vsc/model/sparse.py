"""Models whose latents have gates: VSC and the thresholded ones. Their forward is read straight down."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from vsc.model import spikes as estimators
from vsc.model.base import Autoencoder, Codes
from vsc.model.bounds import Bound, total_correlation
from vsc.model.distributions import SpikeAndSlab, exp
from vsc.model.likelihoods import Likelihood
from vsc.model.priors import (
    FixedGates,
    Prior,
    SpikeSlabPrior,
    ThresholdedLaplacePrior,
    ThresholdedNormalPrior,
    ThresholdedPrior,
)
from vsc.model.refining import ascend
from vsc.model.scaling import Scaler
from vsc.model.spikes import SpikeEstimator
from vsc.model.thresholded import Thresholded

ALPHA = 0.1
"""Prior spike probability of a model that is given no prior."""


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


class Sparse(Autoencoder, ABC):
    """A model whose latents have gates, which a spike estimator trains."""

    spiked = True
    spikes: SpikeEstimator
    relaxation: float
    correlated = False

    @abstractmethod
    def posterior(self, x: Tensor, lam: float = 1.0) -> Any:
        """Return q_lambda(z|x), shape (B, J), of x (B, M)."""

    def forward(self, x, lam=1.0, relaxation=None):
        """Return the terms of the ELBO of x (B, M); in eval mode the spikes are hard, whatever the estimator."""
        estimate = self.spikes if self.training else estimators.hard
        # q(z|x)  (B, J)       ICLR eq. 5; a prior's pseudo-inputs pass the encoder beside x
        qz, posterior = self.prior.encoded(x, partial(self.posterior, lam=lam))
        if self.sweeps and not self.training:
            qz = ascend(self, x, qz, self.sweeps)
        relaxation = self.relaxation if relaxation is None else relaxation
        log_px = estimate(qz, self.given(x), relaxation)  # E_q log p(x|z)  (B,)
        kl = self.prior.kl(qz, x, posterior)  # (B,)       ICLR eq. 9, UAI eq. 6
        tc = slab_correlation(qz, self.prior.origin) if self.correlated and self.training else torch.zeros_like(log_px)
        return Bound(log_px, kl.slab, kl.spike, kl.selection, qz.gamma, kl.penalty, tc)

    def codes(self, x):
        """Return z = gamma mu, gamma and mu."""
        qz = self.posterior(x)
        if self.sweeps:
            qz = ascend(self, x, qz, self.sweeps)
        return Codes(qz.mean, qz.gamma, qz.mu)


class VSC(Sparse):
    """
    Variational sparse coding: q(z|x) and p(z) are spike-and-slabs (ICLR eq. 4, 5).

    Parameters
    ----------
    encoder, decoder, shape, latent_dim, likelihood, scaler, missing
        As for `Autoencoder`.
    prior : Prior, optional
        p(z); by default the fixed spike-and-slab with alpha = `ALPHA`. One without gates holds the gates open: the VAE.
    spikes : callable
        The spike estimator, as those in `spikes.SPIKES`.
    relaxation : float
        Its T or c where `forward` is given none: in training the last one.
    head : callable
        How encoder outputs become spike logits, as those in `HEADS`.
    gate_init : float
        What is added to these outputs, always: the spike logit at the start of training. 0 is gamma = 1/2, larger opens
        the gates.
    correlated : bool
        Whether training is given the total correlation of the slabs, which takes B x B x J numbers.

    Raises
    ------
    UsageError
        As `Autoencoder`.
    """

    features = 3
    refines = True
    schedules = frozenset({"beta", "total_correlation", "cap", "target_l0", "relaxation", "lam"})

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        shape: tuple[int, ...],
        latent_dim: int,
        prior: Prior | None = None,
        likelihood: Likelihood | None = None,
        spikes: SpikeEstimator = estimators.straight_through,
        relaxation: float = 0.5,
        head: Callable[[Tensor], Tensor] = logit_head,
        gate_init: float = 0.0,
        correlated: bool = False,
        scaler: Scaler | None = None,
        missing: bool = False,
    ):
        super().__init__(
            encoder,
            decoder,
            shape=shape,
            latent_dim=latent_dim,
            likelihood=likelihood,
            scaler=scaler,
            missing=missing,
        )
        self.prior = SpikeSlabPrior(FixedGates(latent_dim, ALPHA)) if prior is None else prior
        self.spikes, self.relaxation, self.correlated = spikes, relaxation, correlated
        self.head = open_gates if self.prior.gates_open else head
        self.gate_init: Tensor
        self.register_buffer("gate_init", torch.tensor(float(gate_init), dtype=torch.float32))

    def posterior(self, x: Tensor, lam: float = 1.0) -> SpikeAndSlab:
        """Return q_lambda(z|x), shape (B, J), of x (B, M) (UAI sec. 3.4)."""
        mu, logvar, v = self.parts(x)
        if lam < 1:  # the slab N(lam mu, lam s^2 + 1 - lam): variances are interpolated, not deviations
            mu, logvar = lam * mu, torch.log(lam * exp(logvar) + (1 - lam))
        if (origin := self.prior.origin) is not None:
            mu = mu + origin.to(mu.dtype)
        return SpikeAndSlab(mu, logvar, spike_logits=self.head(v + self.gate_init), validate_args=False)


class ThresholdedVSC(Sparse, ABC):
    """
    Soft-thresholded latents, z = mu + soft_t(xi) of a xi with scale b: exact zeros, and an exact divergence.

    The thresholds t_j are learned and shared with the prior, of scale 1: the model learns how sparse each latent is
    (answering the course report's limitation 7.2.1).

    Parameters
    ----------
    encoder, decoder, shape, latent_dim, likelihood, scaler, missing
        As for `Autoencoder`.
    alpha : float
        Where every alpha_j = P(|xi| > t_j) at scale 1 starts, in (0, 1); the gates themselves start at 1/2.
    spikes, relaxation
        As for `VSC`.

    Raises
    ------
    UsageError
        If alpha is outside (0, 1), and as `Autoencoder`.
    """

    features = 2
    schedules = frozenset({"beta", "cap", "target_l0", "relaxation"})

    @property
    @abstractmethod
    def thresholded(self) -> type[ThresholdedPrior]:
        """The kind of prior, whose kind of distribution the posterior has too."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        shape: tuple[int, ...],
        latent_dim: int,
        alpha: float = ALPHA,
        likelihood: Likelihood | None = None,
        spikes: SpikeEstimator = estimators.straight_through,
        relaxation: float = 0.5,
        scaler: Scaler | None = None,
        missing: bool = False,
    ):
        super().__init__(
            encoder,
            decoder,
            shape=shape,
            latent_dim=latent_dim,
            likelihood=likelihood,
            scaler=scaler,
            missing=missing,
        )
        self.prior = self.thresholded(latent_dim, alpha)
        self.spikes, self.relaxation = spikes, relaxation
        self.scale_init: Tensor  # ln b at the start of training, added always: gamma = 1/2
        of = self.thresholded.kind.threshold_of
        self.register_buffer("scale_init", torch.tensor(math.log(of(alpha) / of(0.5)), dtype=torch.float32))

    def posterior(self, x: Tensor, lam: float = 1.0) -> Thresholded:
        """Return q(z|x), shape (B, J), of x (B, M); it has no warm-up."""
        mu, logscale = (part.contiguous() for part in self.from_encoder(x).chunk(2, -1))
        threshold: Tensor = self.prior.threshold  # pyright: ignore[reportAssignmentType]
        return self.thresholded.kind(mu, logscale + self.scale_init, threshold, validate_args=False)


class ThresholdedLaplaceVSC(ThresholdedVSC):
    """`ThresholdedVSC` of xi ~ Lap(0, b): gamma = exp(-t / b); where it is on, z ~ Lap(mu, b). Parameters as there."""

    thresholded = ThresholdedLaplacePrior  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]


class ThresholdedNormalVSC(ThresholdedVSC):
    """
    `ThresholdedVSC` of xi ~ N(0, b^2), as in Fallah and Rozell (2022): gamma = 2 Phi(-t / b). Parameters as there.

    There the KL is that of the Gaussians before the threshold; here it is that of z, so that the bound is one.
    """

    thresholded = ThresholdedNormalPrior  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]


def slab_correlation(qz: SpikeAndSlab, origin: Tensor | None = None) -> Tensor:
    """
    Return the total correlation of the slabs in a batch, by minibatch-weighted sampling (Chen et al. 2018).

    A latent that is off has no value; one drawn from N(origin, 1) takes its place. So only what values say of each
    other counts, and not that the gates of one thing open together. Half of the batch is looked at.

    Parameters
    ----------
    qz : SpikeAndSlab, shape (B, J)
        The posterior.
    origin : torch.Tensor, shape (J,), optional
        What the posterior's means are counted from, by default zero.

    Returns
    -------
    torch.Tensor, shape (B,)
        The estimate in nats, the same for every example. Its gradient does not reach the gates.
    """
    half = max(1, len(qz.mu) // 2)
    on = torch.bernoulli(qz.gamma[:half].detach())
    mu = qz.mu if origin is None else qz.mu - origin
    mu, logvar = on * mu[:half], on * qz.logvar[:half]  # (B/2, J)
    slab = Normal(mu, (0.5 * logvar).exp(), validate_args=False)
    z = slab.rsample()
    log_q = slab.log_prob(z.unsqueeze(1))  # ln q(z_ij | x_k)  (B/2, B/2, J)
    return total_correlation(log_q).mean().expand(len(qz.mu))
