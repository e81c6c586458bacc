"""Spike estimators: how gradient passes a gate that is either open or shut."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vsc.errors import UsageError
from vsc.model.distributions import Spiked

LogPx = Callable[[Tensor], Tensor]
"""z (B, J) -> log p(x|z) (B,), in nats."""

SpikeEstimator = Callable[[Spiked, LogPx, float], Tensor]
"""(q(z|x), z -> log p(x|z), relaxation) -> an estimate of E_q log p(x|z), (B,), whose gradient trains gamma."""


def hard(qz: Spiked, log_px: LogPx, relaxation: float = 0.0) -> Tensor:
    """
    Draw every gate open or shut, w ~ Bernoulli(gamma): the model itself. No gradient reaches gamma.

    Parameters
    ----------
    qz : Spiked, shape (B, J)
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


def sigmoid(qz: Spiked, log_px: LogPx, c: float) -> Tensor:
    """
    Relax the gate to w = S(c (eta - 1 + gamma)), eta ~ U(0, 1) (ICLR C.1).

    Biased: w is never zero (at gamma = 0 its mean is ln 2 / c), so the decoder learns to read codes that a hard
    spike removes. The bound that it trains is not a bound of the model.

    Parameters
    ----------
    qz : Spiked, shape (B, J)
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


def concrete(qz: Spiked, log_px: LogPx, temperature: float) -> Tensor:
    """
    Relax the gate to w = S((logit gamma + logit u) / T), u ~ U(0, 1) (Maddison et al. 2016).

    Parameters
    ----------
    qz : Spiked, shape (B, J)
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


def straight_through(qz: Spiked, log_px: LogPx, temperature: float) -> Tensor:
    """
    Draw the gate hard, w = 1[logit gamma + logit u > 0], and pass the gradient of `concrete`.

    Parameters
    ----------
    qz : Spiked, shape (B, J)
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
    return log_px(_StraightThrough.apply(qz.slab(), qz.spike_logits, temperature))


class _StraightThrough(torch.autograd.Function):
    """
    w slab with w = 1[l + logit u > 0] forward and w = S((l + logit u) / T) backward.

    One function with its gradient written out, since this is in every training step of the default estimator.
    """

    @staticmethod
    def forward(ctx, slab: Tensor, l: Tensor, temperature: float) -> Tensor:  # noqa: E741
        noisy = _logistic_like(l).add_(l)
        w = noisy.sign().relu_()  # 1[. > 0] in a fifth of the time of a comparison and a cast
        ctx.save_for_backward(slab, noisy, w)
        ctx.temperature = temperature
        return w * slab

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        slab, noisy, w = ctx.saved_tensors
        soft = torch.sigmoid(noisy / ctx.temperature)
        grad_l = torch.ops.aten.sigmoid_backward(grad * slab, soft).div_(ctx.temperature)
        return grad * w, grad_l, None


def mean(qz: Spiked, log_px: LogPx, relaxation: float = 0.0) -> Tensor:
    """
    Draw the gate hard and take dw / dgamma = 1 (Bengio et al. 2013). Biased.

    Parameters
    ----------
    qz : Spiked, shape (B, J)
        The posterior.
    log_px : callable
        z (B, J) -> log p(x|z) (B,), in nats.
    relaxation : float
        Not used.

    Returns
    -------
    torch.Tensor, shape (B,)
        log p(x|z) at the hard draw, in nats.
    """
    slab = qz.slab()
    w = torch.bernoulli(qz.gamma.detach())
    return log_px((w + (qz.gamma - qz.gamma.detach())) * slab)


def disarm(qz: Spiked, log_px: LogPx, relaxation: float = 0.0) -> Tensor:
    """
    Draw an antithetic pair of hard gates on one slab; unbiased (Dong et al. 2020; Yin et al. 2020, there U2G).

    With u ~ U(0, 1), b = 1[u > 1 - gamma] and b' = 1[u < gamma], the gradient with respect to the logit l_j is
    1/2 (f(b) - f(b')) (-1)^{b'_j} 1[b_j != b'_j] S(|l_j|).

    Parameters
    ----------
    qz : Spiked, shape (B, J)
        The posterior.
    log_px : callable
        z (B, J) -> log p(x|z) (B,), in nats.
    relaxation : float
        Not used.

    Returns
    -------
    torch.Tensor, shape (B,)
        Mean of log p(x|z) at the two hard draws, in nats.
    """
    slab, gamma = qz.slab(), qz.gamma.detach()
    u = torch.rand_like(gamma)
    b, other = (u > 1 - gamma).to(gamma.dtype), (u < gamma).to(gamma.dtype)
    f, f_other = log_px(b * slab), log_px(other * slab)
    half = 0.5 * (f - f_other).detach().unsqueeze(-1)
    slope = half * (1 - 2 * other) * (b != other) * torch.sigmoid(qz.spike_logits.detach().abs())
    return 0.5 * (f + f_other) + _only_gradient(slope, qz.spike_logits)


def rloo(qz: Spiked, log_px: LogPx, relaxation: float = 0.0) -> Tensor:
    """
    Score function of two hard draws of the gates on one slab, each the other's baseline; unbiased (Kool et al. 2019).

    Parameters
    ----------
    qz : Spiked, shape (B, J)
        The posterior.
    log_px : callable
        z (B, J) -> log p(x|z) (B,), in nats.
    relaxation : float
        Not used.

    Returns
    -------
    torch.Tensor, shape (B,)
        Mean of log p(x|z) at the two hard draws, in nats.
    """
    slab, gamma = qz.slab(), qz.gamma.detach()
    b, other = torch.bernoulli(gamma), torch.bernoulli(gamma)
    f, f_other = log_px(b * slab), log_px(other * slab)
    # d ln q(b) / dl = b - gamma, so the two scores differ by b - b'
    slope = 0.5 * (f - f_other).detach().unsqueeze(-1) * (b - other)
    return 0.5 * (f + f_other) + _only_gradient(slope, qz.spike_logits)


MOST_EXACT = 10
"""Latents up to which `exact` lists all gates."""


def exact(qz: Spiked, log_px: LogPx, relaxation: float = 0.0) -> Tensor:
    """
    Sum over all 2^J settings of the gates on one slab: exact in the gates, a reference for small J.

    Parameters
    ----------
    qz : Spiked, shape (B, J)
        The posterior, J at most `MOST_EXACT`.
    log_px : callable
        z (B, J) -> log p(x|z) (B,), in nats.
    relaxation : float
        Not used.

    Returns
    -------
    torch.Tensor, shape (B,)
        E_w log p(x|w (mu + s eps)), in nats.

    Raises
    ------
    UsageError
        If J exceeds `MOST_EXACT`.
    """
    slab, J = qz.slab(), qz.mu.shape[-1]
    if J > MOST_EXACT:
        raise UsageError(f"spike estimator 'exact' lists 2^J gates, for at most {MOST_EXACT} latents, not {J}")
    total = torch.zeros_like(slab[:, 0])
    for setting in itertools.product((0.0, 1.0), repeat=J):
        w = torch.tensor(setting, dtype=slab.dtype, device=slab.device)
        probability = torch.where(w > 0, qz.gamma, 1 - qz.gamma).prod(-1)
        total = total + probability * log_px(w * slab)
    return total


def _only_gradient(slope: Tensor, logits: Tensor) -> Tensor:
    """Return zeros (B,) whose gradient with respect to the logits (B, J) is `slope`."""
    finite = torch.where(slope == 0, torch.zeros_like(logits), logits)  # 0 times an infinite logit is no number
    value = (slope * finite).sum(-1)
    return value - value.detach()


def _logistic_like(like: Tensor) -> Tensor:
    """Return logit u for u ~ U(0, 1), of the shape of `like`."""
    return torch.logit(torch.rand_like(like), eps=torch.finfo(like.dtype).tiny)


SPIKES: dict[str, SpikeEstimator] = {
    "sigmoid": sigmoid,
    "concrete": concrete,
    "straight-through": straight_through,
    "mean": mean,
    "disarm": disarm,
    "rloo": rloo,
    "exact": exact,
}
