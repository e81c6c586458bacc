"""Spike estimators: how gradient passes a gate that is either open or shut."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vsc.distributions import SpikeAndSlab

LogPx = Callable[[Tensor], Tensor]
"""z (B, J) -> log p(x|z) (B,), in nats."""

SpikeEstimator = Callable[[SpikeAndSlab, LogPx, float], Tensor]
"""(q(z|x), z -> log p(x|z), relaxation) -> an estimate of E_q log p(x|z), (B,), whose gradient trains gamma."""


def hard(qz: SpikeAndSlab, log_px: LogPx, relaxation: float = 0.0) -> Tensor:
    """
    Draw every gate open or shut, w ~ Bernoulli(gamma): the model itself. No gradient reaches gamma.

    Parameters
    ----------
    qz : SpikeAndSlab, shape (B, J)
        The posterior.
    log_px : callable
        z (B, J) -> log p(x|z) (B,), in nats.
    relaxation : float
        Not used.

    Returns
    -------
    torch.Tensor, shape (B,)
        log p(x|z) at the draw, in nats.
    """
    slab = qz.slab()
    return log_px(torch.bernoulli(qz.gamma.detach()) * slab)


def sigmoid(qz: SpikeAndSlab, log_px: LogPx, c: float) -> Tensor:
    """
    Relax the gate to w = S(c (eta - 1 + gamma)), eta ~ U(0, 1) (ICLR C.1).

    Biased: w is never zero (at gamma = 0 its mean is ln 2 / c), so the decoder learns to read codes that a hard
    spike removes. The bound that it trains is not a bound of the model.

    Parameters
    ----------
    qz : SpikeAndSlab, shape (B, J)
        The posterior.
    log_px : callable
        z (B, J) -> log p(x|z) (B,), in nats.
    c : float
        Sharpness; the paper raises it from 50 to 200.

    Returns
    -------
    torch.Tensor, shape (B,)
        log p(x|z) at the relaxed draw, in nats.
    """
    slab = qz.slab()
    return log_px(torch.sigmoid(c * (torch.rand_like(slab) - 1 + qz.gamma)) * slab)


def concrete(qz: SpikeAndSlab, log_px: LogPx, temperature: float) -> Tensor:
    """
    Relax the gate to w = S((logit gamma + logit u) / T), u ~ U(0, 1) (Maddison et al. 2016).

    Parameters
    ----------
    qz : SpikeAndSlab, shape (B, J)
        The posterior.
    log_px : callable
        z (B, J) -> log p(x|z) (B,), in nats.
    temperature : float
        T > 0; as T -> 0 the draw becomes hard.

    Returns
    -------
    torch.Tensor, shape (B,)
        log p(x|z) at the relaxed draw, in nats.
    """
    slab = qz.slab()
    return log_px(torch.sigmoid((qz.spike_logits + _logistic_like(slab)) / temperature) * slab)


def straight_through(qz: SpikeAndSlab, log_px: LogPx, temperature: float) -> Tensor:
    """
    Draw the gate hard, w = 1[logit gamma + logit u > 0], and pass the gradient of `concrete`.

    Parameters
    ----------
    qz : SpikeAndSlab, shape (B, J)
        The posterior.
    log_px : callable
        z (B, J) -> log p(x|z) (B,), in nats.
    temperature : float
        T > 0 of the gradient; the forward draw does not depend on it.

    Returns
    -------
    torch.Tensor, shape (B,)
        log p(x|z) at the hard draw, in nats.
    """
    return log_px(_StraightThrough.apply(qz.mu, qz.logvar, qz.spike_logits, temperature))


class _StraightThrough(torch.autograd.Function):
    """
    w (mu + s eps) with w = 1[l + logit u > 0] forward and w = S((l + logit u) / T) backward.

    One function with its gradient written out, since this is in every training step of the default estimator.
    """

    @staticmethod
    def forward(ctx, mu: Tensor, logvar: Tensor, l: Tensor, temperature: float) -> Tensor:  # noqa: E741
        noise = torch.randn_like(mu).mul_((0.5 * logvar).exp_())  # s eps
        slab = mu + noise
        noisy = _logistic_like(mu).add_(l)
        w = noisy.sign().relu_()  # 1[. > 0] in a fifth of the time of a comparison and a cast
        ctx.save_for_backward(noise, slab, noisy, w)
        ctx.temperature = temperature
        return w * slab

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        noise, slab, noisy, w = ctx.saved_tensors
        soft = torch.sigmoid(noisy / ctx.temperature)
        grad_l = torch.ops.aten.sigmoid_backward(grad * slab, soft).div_(ctx.temperature)
        grad_mu = grad * w
        return grad_mu, (grad_mu * noise).mul_(0.5), grad_l, None


def _logistic_like(like: Tensor) -> Tensor:
    """Return logit u for u ~ U(0, 1), of the shape of `like`."""
    return torch.logit(torch.rand_like(like), eps=torch.finfo(like.dtype).tiny)


SPIKES: dict[str, SpikeEstimator] = {
    "sigmoid": sigmoid,
    "concrete": concrete,
    "straight-through": straight_through,
}
