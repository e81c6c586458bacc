"""Spike estimators: how gradient passes a gate that is either open or shut."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vsc.errors import UsageError
from vsc.model.distributions import Spiked, draw_gates

LogPx = Callable[[Tensor], Tensor]
"""z (B, J) -> log p(x|z) (B,), in nats."""


class Curved(NamedTuple):
    """
    z -> log p(x|z) as a model gives it to an estimator, together with how it bends.

    Attributes
    ----------
    log_px : callable
        z (B, J) -> log p(x|z) (B,).
    curvature : callable
        () -> -d^2 log p(x|z) / dz_j^2, shape (J,) or (B, J), of a log p that is quadratic in z; UsageError of another.
    """

    log_px: LogPx
    curvature: Callable[[], Tensor]

    def __call__(self, z: Tensor) -> Tensor:
        return self.log_px(z)


SpikeEstimator = Callable[[Spiked, LogPx, float], Tensor]
"""
(qz, log_px, relaxation) -> an estimate of E_q log p(x|z), shape (B,), in nats, whose gradient trains gamma.

`qz` is q(z|x), of shape (B, J); `log_px` takes z (B, J) to log p(x|z) (B,), and is called at one draw or more; what
`relaxation` is, the temperature T or the sharpness c, an estimator says, or that it has none. The gradient is an
estimate of the first derivative; a second one is that of the estimate, and of nothing else.
"""


def hard(qz: Spiked, log_px: LogPx, relaxation: float = 0.0) -> Tensor:
    """
    Draw every gate open or shut, w ~ Bernoulli(gamma): the model itself. No gradient reaches gamma.

    Parameters
    ----------
    qz, log_px, relaxation
        As for every `SpikeEstimator`; there is nothing to relax.
    """
    slab = qz.slab()
    return log_px(draw_gates(qz.gamma) * slab)


def sigmoid(qz: Spiked, log_px: LogPx, c: float) -> Tensor:
    """
    Relax the gate to w = S(c (eta - 1 + gamma)), eta ~ U(0, 1); the paper raises c from 50 to 200 (ICLR C.1).

    Biased: w is never zero (at gamma = 0 its mean is ln 2 / c), so the decoder learns to read codes that a hard
    spike removes. The bound that it trains is not a bound of the model.
    """
    slab = qz.slab()
    return log_px(torch.sigmoid(c * (torch.rand_like(slab) - 1 + qz.gamma)) * slab)


def concrete(qz: Spiked, log_px: LogPx, temperature: float) -> Tensor:
    """Relax the gate to w = S((logit gamma + logit u) / T), u ~ U(0, 1) (Maddison et al. 2016); hard as T -> 0."""
    slab = qz.slab()
    return log_px(torch.sigmoid((qz.spike_logits + _logistic_like(slab)) / temperature) * slab)


def straight_through(qz: Spiked, log_px: LogPx, temperature: float) -> Tensor:
    """Draw the gate hard, w = 1[logit gamma + logit u > 0], and pass the gradient of `concrete` at T."""
    slab = qz.slab()
    noisy = qz.spike_logits + _logistic_like(slab)
    soft = torch.sigmoid(noisy / temperature)
    return log_px(((noisy > 0).to(slab.dtype) + (soft - soft.detach())) * slab)


def mean(qz: Spiked, log_px: LogPx, relaxation: float = 0.0) -> Tensor:
    """Draw the gate hard and take dw / dgamma = 1 (Bengio et al. 2013). Biased; nothing to relax."""
    slab = qz.slab()
    return log_px((draw_gates(qz.gamma) + (qz.gamma - qz.gamma.detach())) * slab)


def disarm(qz: Spiked, log_px: LogPx, relaxation: float = 0.0) -> Tensor:
    """
    Draw an antithetic pair of hard gates on one slab; unbiased (Dong et al. 2020; Yin et al. 2020, there U2G).

    With u ~ U(0, 1), b = 1[u > 1 - gamma] and b' = 1[u < gamma], the gradient with respect to the logit l_j is
    1/2 (f(b) - f(b')) (-1)^{b'_j} 1[b_j != b'_j] S(|l_j|). Its value is the mean of the two; nothing to relax.
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

    Its value is the mean of the two; nothing to relax.
    """
    slab, gamma = qz.slab(), qz.gamma
    b, other = draw_gates(gamma), draw_gates(gamma)
    f, f_other = log_px(b * slab), log_px(other * slab)
    # d ln q(b) / dl = b - gamma, so the two scores differ by b - b'
    slope = 0.5 * (f - f_other).detach().unsqueeze(-1) * (b - other)
    return 0.5 * (f + f_other) + _only_gradient(slope, qz.spike_logits)


def analytic(qz: Spiked, log_px: LogPx, relaxation: float = 0.0) -> Tensor:
    """
    Take the expectation in closed form: no draw, no noise, nothing to relax.

    With a linear decoder and a Gaussian likelihood log p(x|z) is quadratic in z, and latents are independent under q:
    E_q log p(x|z) = log p(x|E z) - 1/2 sum_j h_j Var z_j exactly, where h_j = |d_j|^2 / sigma^2 is its curvature. This
    is E |x - b - D z|^2 = |x - b - D gamma mu|^2 + sum_j |d_j|^2 (gamma_j (s_j^2 + mu_j^2) - gamma_j^2 mu_j^2).

    UsageError where decoder or likelihood are others.
    """
    if not isinstance(log_px, Curved):
        raise UsageError("spike estimator 'analytic' needs the curvature of log p(x|z); give it a spikes.Curved")
    h = log_px.curvature().to(qz.mu)
    return log_px(qz.mean) - 0.5 * (qz.variance @ h if h.ndim == 1 else (qz.variance * h).sum(-1))


MOST_EXACT = 10
"""Latents up to which `exact` lists all gates."""


def exact(qz: Spiked, log_px: LogPx, relaxation: float = 0.0) -> Tensor:
    """
    Sum over all 2^J settings of the gates on one slab: exact in the gates, a reference for small J.

    Refuses more than `MOST_EXACT` latents with a UsageError. Nothing to relax.
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
    "analytic": analytic,
}

RELAXATION = {"sigmoid": "50 -> 200", "concrete": "0.7 -> 0.3", "straight-through": "0.7 -> 0.3"}
"""The estimators that take a relaxation -> its usual schedule: c of the first, T of the others."""
