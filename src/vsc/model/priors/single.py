"""Priors of one component: one distribution for every latent."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Laplace, Normal

from vsc.model.distributions import SpikeAndSlab, at_least_single
from vsc.model.divergences import KLParts, kl_parts, laplace_kl, normal_kl
from vsc.model.priors.base import Divergence, Mixture, Prior, checked
from vsc.model.thresholded import Thresholded, ThresholdedLaplace, ThresholdedNormal


class SinglePrior(Prior):
    """
    p(z) is a product of distributions p(z_j), one for each latent; neither x nor the encoder matters.

    Parameters
    ----------
    latent_dim : int
        J.
    """

    zero: Tensor
    """Zeros (J,), which go where the model goes."""
    noise = ""
    """As `Mixture.noise`, where values are drawn from it as it is: mean 0 and scale 1."""

    def __init__(self, latent_dim: int):
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent_dim), persistent=False)

    @abstractmethod
    def pz(self, zero: Tensor) -> Any:
        """Return p(z), (J,), with the precision of `zero`."""

    @abstractmethod
    def parts(self, qz: Any) -> KLParts:
        """Return the two parts of KL(q || p) of each latent, (B, J)."""

    def kl(self, qz, x, posterior):
        """Return KL(q || p): exact, and nothing for a choice."""
        slab, spike = (part.sum(-1) for part in self.parts(qz))
        zero = torch.zeros_like(slab)
        return Divergence(slab, spike, zero, zero)

    def latent_kl(self, qz, x, posterior):
        return self.parts(qz).total

    def slab(self, qz, x, n, posterior):
        return self.pz(at_least_single(self.zero)).slab((len(x), n))

    def sample(self, n, posterior):
        return self.pz(at_least_single(self.zero)).sample((n,))

    def mixture(self, posterior):
        if not self.noise:
            return None
        zero = at_least_single(self.zero)[None]
        one = torch.ones_like(zero)
        return Mixture(getattr(self.pz(zero), "gamma", one), zero, one, self.noise)

    def log_prob(self, z, posterior):
        return self.pz(self.zero.to(z.dtype)).log_prob(z).sum(-1)


class NormalPrior(SinglePrior):
    """N(0, I), without spikes (VAE); a VSC with it holds its gates open."""

    gates_open = True
    noise = "normal"

    def pz(self, zero):
        return Normal(zero, torch.ones_like(zero), validate_args=False)

    def parts(self, qz):
        """Return the divergence of a Normal or of a spike-and-slab with open gates, all of it in the slab part."""
        mu, logvar = (qz.mu, qz.logvar) if isinstance(qz, SpikeAndSlab) else (qz.loc, 2 * qz.scale.log())
        return KLParts(normal_kl(mu, logvar), torch.zeros_like(mu))


class LaplacePrior(SinglePrior):
    """Lap(0, 1) in every dimension: dense but softly sparse."""

    noise = "laplace"

    def pz(self, zero):
        return Laplace(zero, torch.ones_like(zero), validate_args=False)

    def parts(self, qz):
        """Return the divergence of a Laplace posterior, all of it in the slab part."""
        return KLParts(laplace_kl(qz.loc, qz.scale.log()), torch.zeros_like(qz.loc))


class ThresholdedPrior(SinglePrior, ABC):
    """
    A `Thresholded` distribution with mu = 0, b = 1 and a learned threshold t_j, which is P(|xi| > t_j) = alpha_j.

    Parameters
    ----------
    latent_dim : int
        J.
    alpha : float
        Where every alpha_j starts, in (0, 1).

    Raises
    ------
    UsageError
        If alpha is outside (0, 1).
    """

    kind: type[Thresholded]

    def __init__(self, latent_dim: int, alpha: float):
        super().__init__(latent_dim)
        start = math.log(self.kind.threshold_of(checked(alpha)))
        self.log_threshold = nn.Parameter(torch.full((latent_dim,), start))

    @property
    def threshold(self) -> Tensor:
        """Thresholds t, shape (J,)."""
        return self.log_threshold.exp()

    def pz(self, zero):
        return self.kind(zero, zero, self.threshold.to(zero.dtype), validate_args=False)

    def parts(self, qz):
        """Return gamma KL of the slabs and KL(Bern(gamma) || Bern(alpha)) of each latent."""
        return kl_parts(qz, self.pz(self.zero.to(qz.mu.dtype)))


class ThresholdedLaplacePrior(ThresholdedPrior):
    """The thresholded Laplace: alpha_j = exp(-t_j). Takes the parameters of `ThresholdedPrior`."""

    noise = "laplace"
    kind = ThresholdedLaplace


class ThresholdedNormalPrior(ThresholdedPrior):
    """The thresholded Gaussian: alpha_j = 2 Phi(-t_j). Takes the parameters of `ThresholdedPrior`."""

    kind = ThresholdedNormal
