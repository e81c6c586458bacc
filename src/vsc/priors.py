"""Priors p(z) over the latent code: the divergence of a posterior from them, and samples."""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributions import Normal

from vsc.distributions import KLParts, SpikeAndSlab, normal_kl, softplus
from vsc.errors import UsageError


class NormalPrior(nn.Module):
    """
    N(0, I), without spikes (VAE).

    Parameters
    ----------
    latent_dim : int
        J.
    """

    def __init__(self, latent_dim: int):
        super().__init__()
        self.latent_dim = latent_dim

    def kl(self, qz: Normal) -> KLParts:
        """Return KL(q || p) in nats, shape (B,) each; the spike part is zero."""
        kl = normal_kl(qz.loc, 2 * qz.scale.log()).sum(-1)
        return KLParts(kl, torch.zeros_like(kl))

    def sample(self, n: int) -> Tensor:
        """Draw z ~ p(z), shape (n, J)."""
        return torch.randn(n, self.latent_dim)


class SpikeSlabPrior(nn.Module):
    """
    alpha N(0, 1) + (1 - alpha) delta_0 in every dimension, with alpha given (ICLR eq. 4).

    Parameters
    ----------
    latent_dim : int
        J.
    alpha : float
        Prior spike probability in (0, 1]; smaller is sparser.

    Raises
    ------
    UsageError
        If alpha is outside (0, 1].
    """

    def __init__(self, latent_dim: int, alpha: float):
        super().__init__()
        if not 0 < alpha <= 1:
            raise UsageError(f"alpha is the prior probability that a latent is on, in (0, 1], not {alpha}")
        self.latent_dim, self.alpha = latent_dim, alpha
        self.logit = math.log(alpha / (1 - alpha)) if alpha < 1 else math.inf

    def kl(self, qz: SpikeAndSlab) -> KLParts:
        """Return KL(q || p) in nats, shape (B,) each (ICLR eq. 9); at alpha = 1 the gates must be open."""
        if self.alpha == 1:
            slab = (qz.gamma * normal_kl(qz.mu, qz.logvar)).sum(-1)
            return KLParts(slab, torch.zeros_like(slab))
        slab, spike = _FixedKL.apply(qz.mu, qz.logvar, qz.spike_logits, self.logit)
        return KLParts(slab, spike - self.latent_dim * math.log1p(-self.alpha))

    def sample(self, n: int) -> Tensor:
        """Draw z ~ p(z), shape (n, J); exactly zero where the spike is off."""
        w = torch.bernoulli(torch.full((n, self.latent_dim), self.alpha))
        return w * torch.randn(n, self.latent_dim)


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
