"""Priors of one component: one distribution for every latent."""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributions import Laplace

from vsc.model.distributions import (
    LOG_2PI,
    SpikeAndSlab,
    ThresholdedLaplace,
    bernoulli_kl,
    laplace_kl,
    normal_kl,
    softplus,
)
from vsc.model.priors.base import Divergence, Prior, checked


class NormalPrior(Prior):
    """
    N(0, I), without spikes (VAE); a VSC with it holds its gates open.

    Parameters
    ----------
    latent_dim : int
        J.
    """

    gates_open = True

    def __init__(self, latent_dim: int):
        super().__init__()
        self.latent_dim = latent_dim

    def kl(self, qz, x, posterior):
        """Return KL(q || p), all of it in the slab part, of a Normal or of a spike-and-slab with open gates."""
        sparse = isinstance(qz, SpikeAndSlab)
        mu, logvar = (qz.mu, qz.logvar) if sparse else (qz.loc, 2 * qz.scale.log())
        slab = normal_kl(mu, logvar).sum(-1)
        zero = torch.zeros_like(slab)
        return Divergence(slab, zero, zero, zero)

    def latent_kl(self, qz, x, posterior):
        """Return the terms of `kl`, shape (B, J)."""
        if isinstance(qz, SpikeAndSlab):
            return normal_kl(qz.mu, qz.logvar)
        return normal_kl(qz.loc, 2 * qz.scale.log())

    def sample(self, n, posterior):
        """Draw z ~ N(0, I), shape (n, J)."""
        return torch.randn(n, self.latent_dim)

    def log_prob(self, z, posterior):
        """Return ln N(z; 0, I), shape (N,)."""
        return -0.5 * (z.square() + LOG_2PI).sum(-1)


class SpikeSlabPrior(Prior):
    """
    alpha N(0, 1) + (1 - alpha) delta_0 in every dimension, with alpha given (ICLR eq. 4).

    Parameters
    ----------
    latent_dim : int
        J.
    alpha : float
        Prior spike probability in (0, 1]; smaller is sparser. At 1 the gates must be open: the VAE's prior.

    Raises
    ------
    UsageError
        If alpha is outside (0, 1].
    """

    def __init__(self, latent_dim: int, alpha: float):
        super().__init__()
        self.latent_dim, self.alpha = latent_dim, checked(alpha, most=1.0)
        self.gates_open = alpha == 1
        self.logit = math.log(alpha / (1 - alpha)) if alpha < 1 else math.inf

    def kl(self, qz, x, posterior):
        """Return KL(q || p) in nats, shape (B,) each (ICLR eq. 9); below alpha = 1 for finite spike logits."""
        if self.gates_open:
            slab = (qz.gamma * normal_kl(qz.mu, qz.logvar)).sum(-1)
            spike = torch.zeros_like(slab)
        else:
            slab, spike = _FixedKL.apply(qz.mu, qz.logvar, qz.spike_logits, self.logit)
            spike = spike - self.latent_dim * math.log1p(-self.alpha)
        zero = torch.zeros_like(slab)
        return Divergence(slab, spike, zero, zero)

    def latent_kl(self, qz, x, posterior):
        """Return the terms of `kl`, shape (B, J)."""
        slab = qz.gamma * normal_kl(qz.mu, qz.logvar)
        return slab if self.gates_open else slab + bernoulli_kl(qz.spike_logits, torch.tensor(self.logit))

    def sample(self, n, posterior):
        """Draw z ~ p(z), shape (n, J); exactly zero where the spike is off."""
        w = torch.bernoulli(torch.full((n, self.latent_dim), self.alpha))
        return torch.where(w > 0, torch.randn(n, self.latent_dim), 0.0)

    def log_prob(self, z, posterior):
        """Return ln p(z), shape (N,)."""
        on = math.log(self.alpha) - 0.5 * (z.square() + LOG_2PI)
        off = math.log1p(-self.alpha) if self.alpha < 1 else -math.inf
        return torch.where(z == 0, torch.full_like(z, off), on).sum(-1)


class LearnedPrior(Prior):
    """
    alpha_j N(0, 1) + (1 - alpha_j) delta_0 with every alpha_j learned; its optimum is alpha_j = mean_x gamma_j(x).

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

    def __init__(self, latent_dim: int, alpha: float):
        super().__init__()
        alpha = checked(alpha)
        self.spike_logits = nn.Parameter(torch.full((latent_dim,), math.log(alpha / (1 - alpha))))

    def kl(self, qz, x, posterior):
        """Return KL(q || p) in nats, shape (B,) each."""
        slab = (qz.gamma * normal_kl(qz.mu, qz.logvar)).sum(-1)
        spike = bernoulli_kl(qz.spike_logits, self.spike_logits).sum(-1)
        zero = torch.zeros_like(slab)
        return Divergence(slab, spike, zero, zero)

    def latent_kl(self, qz, x, posterior):
        """Return the terms of `kl`, shape (B, J)."""
        return qz.gamma * normal_kl(qz.mu, qz.logvar) + bernoulli_kl(qz.spike_logits, self.spike_logits)

    def sample(self, n, posterior):
        """Draw z ~ p(z), shape (n, J); exactly zero where the spike is off."""
        return self._distribution().sample((n,))

    def log_prob(self, z, posterior):
        """Return ln p(z), shape (N,)."""
        return self._distribution().log_prob(z).sum(-1)

    def _distribution(self) -> SpikeAndSlab:
        zero = torch.zeros_like(self.spike_logits)
        return SpikeAndSlab(zero, zero, spike_logits=self.spike_logits, validate_args=False)


class LaplacePrior(Prior):
    """
    Lap(0, 1) in every dimension: dense but softly sparse.

    Parameters
    ----------
    latent_dim : int
        J.
    """

    def __init__(self, latent_dim: int):
        super().__init__()
        self.latent_dim = latent_dim

    def kl(self, qz, x, posterior):
        """Return KL(q || p) of a Laplace posterior, all of it in the slab part."""
        slab = laplace_kl(qz.loc, qz.scale.log()).sum(-1)
        zero = torch.zeros_like(slab)
        return Divergence(slab, zero, zero, zero)

    def latent_kl(self, qz, x, posterior):
        """Return the terms of `kl`, shape (B, J)."""
        return laplace_kl(qz.loc, qz.scale.log())

    def sample(self, n, posterior):
        """Draw z ~ p(z), shape (n, J)."""
        return Laplace(0.0, 1.0).sample((n, self.latent_dim))

    def log_prob(self, z, posterior):
        """Return ln p(z), shape (N,)."""
        return -(z.abs() + math.log(2)).sum(-1)


class ThresholdedLaplacePrior(Prior):
    """
    The thresholded Laplace with mu = 0, b = 1 and a learned threshold t_j: alpha_j = exp(-t_j).

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

    def __init__(self, latent_dim: int, alpha: float):
        super().__init__()
        self.log_threshold = nn.Parameter(torch.full((latent_dim,), math.log(-math.log(checked(alpha)))))

    @property
    def threshold(self) -> Tensor:
        """Thresholds t, shape (J,)."""
        return self.log_threshold.exp()

    def kl(self, qz, x, posterior):
        """Return gamma KL(Lap(mu, b) || Lap(0, 1)) and KL(Bern(gamma) || Bern(alpha)), shape (B,) each."""
        slab = (qz.gamma * laplace_kl(qz.mu, qz.logscale)).sum(-1)
        spike = bernoulli_kl(qz.spike_logits, self._distribution().spike_logits).sum(-1)
        zero = torch.zeros_like(slab)
        return Divergence(slab, spike, zero, zero)

    def latent_kl(self, qz, x, posterior):
        """Return the terms of `kl`, shape (B, J)."""
        spike = bernoulli_kl(qz.spike_logits, self._distribution().spike_logits)
        return qz.gamma * laplace_kl(qz.mu, qz.logscale) + spike

    def sample(self, n, posterior):
        """Draw z ~ p(z), shape (n, J); exactly zero where the spike is off."""
        return self._distribution().sample((n,))

    def log_prob(self, z, posterior):
        """Return ln p(z), shape (N,)."""
        return self._distribution().log_prob(z).sum(-1)

    def _distribution(self) -> ThresholdedLaplace:
        zero = torch.zeros_like(self.log_threshold)
        return ThresholdedLaplace(zero, zero, self.threshold, validate_args=False)


class _FixedKL(torch.autograd.Function):
    """
    sum_j gamma KL(N(mu, s^2) || N(0, 1)) and sum_j gamma (l - p) - ln(1 + e^l), (B,) each, for finite logits l, p.

    The same as `distributions.kl_parts`, with its gradient written out: this is in every training step.
    """

    @staticmethod
    def forward(ctx, mu: Tensor, logvar: Tensor, l: Tensor, p: float):  # noqa: E741
        var, gamma, d = logvar.exp(), torch.sigmoid(l), l - p
        gauss = torch.addcmul(var, mu, mu).sub_(logvar).sub_(1).mul_(0.5)
        ctx.save_for_backward(mu, var, gamma, d, gauss)
        return (gamma * gauss).sum(-1), (gamma * d).sub_(softplus(l)).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, slab: Tensor, spike: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        mu, var, gamma, d, gauss = ctx.saved_tensors
        slab, spike = slab.unsqueeze(-1), spike.unsqueeze(-1)
        on = slab * gamma
        grad_l = (gauss * slab).addcmul_(d, spike).mul_(gamma).mul_(1 - gamma)
        return on * mu, (on * (var - 1)).mul_(0.5), grad_l, None
