"""Divergences in closed form: of slabs and gates, of two spike-and-slabs, and of all pairs by matrix products."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import register_kl
from torch.nn.functional import logsigmoid, softplus

from vsc.model.distributions import LOG_2PI, SpikeAndSlab, Spiked, exp, gate_entropy, largest
from vsc.model.thresholded import ThresholdedLaplace, ThresholdedNormal, thresholded_normal_kl


class KLParts(NamedTuple):
    """A divergence in nats: `slab` from the continuous part, `spike` from the gates."""

    slab: Tensor
    spike: Tensor

    @property
    def total(self) -> Tensor:
        """The whole divergence."""
        return self.slab + self.spike


def normal_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, s^2) || N(0, 1)) elementwise, in nats; finite, since a shut gate's share is 0 times it."""
    logvar, far = logvar.clamp(max=largest(logvar)), 0.5 * math.sqrt(torch.finfo(mu.dtype).max)
    return 0.5 * (mu.clamp(-far, far).square() + logvar.exp() - logvar - 1)


def laplace_kl(mu: Tensor, logscale: Tensor) -> Tensor:
    """KL(Lap(mu, b) || Lap(0, 1)) elementwise, in nats: |mu| - ln b - 1 + b exp(-|mu| / b)."""
    size = mu.abs()
    return size - logscale - 1 + exp(logscale - size * exp(-logscale))


def bernoulli_kl(logits: Tensor, prior_logits: Tensor) -> Tensor:
    """
    KL(Bern(S(l)) || Bern(S(p))) elementwise, in nats, for any logits, infinite ones included.

    Written as -H(l) - S(l) ln S(p) - S(-l) ln S(-p), which needs no clamp: what the prior gives to an outcome only
    counts where the outcome can be, so that a certain gate leaves only its own.
    """
    on, off = torch.sigmoid(logits), torch.sigmoid(-logits)
    log_on = torch.where(on > 0, logsigmoid(prior_logits), 0.0)
    log_off = torch.where(off > 0, logsigmoid(-prior_logits), 0.0)
    return -gate_entropy(logits) - on * log_on - off * log_off


def kl_parts(q: Spiked, p: Spiked) -> KLParts:
    """
    KL(q || p) of two distributions of one kind elementwise, in its two parts (ICLR eq. 9, generalised).

    Parameters
    ----------
    q, p : SpikeAndSlab, ThresholdedLaplace or ThresholdedNormal, broadcastable shapes (...)
        The two distributions.

    Returns
    -------
    KLParts
        Nats, shape (...). The UAI supplement prints s where s^2 is meant in the quadratic term.
    """
    if isinstance(q, SpikeAndSlab) and isinstance(p, SpikeAndSlab):  # moved and scaled so that p's slab is N(0, 1)
        slab = normal_kl((q.mu - p.mu) * exp(-0.5 * p.logvar), q.logvar - p.logvar)
    elif isinstance(q, ThresholdedNormal) and isinstance(p, ThresholdedNormal):
        slab = thresholded_normal_kl(q, p)
    else:
        assert isinstance(q, ThresholdedLaplace)
        assert isinstance(p, ThresholdedLaplace)
        slab = laplace_kl((q.mu - p.mu) * exp(-p.logscale), q.logscale - p.logscale)
    return KLParts(q.gamma * slab, bernoulli_kl(q.spike_logits, p.spike_logits))


def summed_kl(q: SpikeAndSlab, p: SpikeAndSlab) -> KLParts:
    """
    KL(q_i || p) of every example from one prior, summed over the latents: `kl_parts` in a third of the passes.

    Parameters
    ----------
    q, p : SpikeAndSlab, shapes (B, J) and (1, J)
        The posteriors, and the prior. Logits of either beyond +-1000 count as 1000.

    Returns
    -------
    KLParts
        Nats, shape (B,).
    """
    with _no_autocast(q.mu):
        k = p.spike_logits.clamp(-1000, 1000)
        return KLParts(*_Summed.apply(q.mu, q.logvar, q.gamma, q.spike_logits, p.mu, p.logvar, k))


class _Summed(torch.autograd.Function):
    """
    sum_j g_j K_j and sum_j [ln(1 + e^k_j) - g_j k_j - H_j]: of the slabs, and of gates whose entropy is H.

    The slopes are g d / t in mu, g (r - 1) / 2 in ln s^2, and K and l - k in g. So l has none of its own, and an
    infinite one does not count.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(mu, logvar, g, l, m, logvar_p, k):  # noqa: E741
        K = _moved(mu, logvar, m, logvar_p)[2]
        size, least = l.abs().clamp(max=1000), torch.minimum(g, 1 - g)
        entropy = (least * size).sum(-1) - least.neg_().log1p_().sum(-1)
        return 0.5 * (g * K).sum(-1), softplus(k).sum() - (g * k).sum(-1) - entropy

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, of_slab, of_spike):  # pyright: ignore[reportIncompatibleMethodOverride]
        mu, logvar, g, l, m, logvar_p, k = ctx.saved_tensors  # noqa: E741
        d, r, K = _moved(mu, logvar, m, logvar_p)
        half, of_spike = 0.5 * of_slab[:, None], of_spike[:, None]
        G = g * half
        by_d = G * d
        by_mu, by_logvar = by_d * (2 * exp(-0.5 * logvar_p)), G * (r - 1)
        by_g = torch.addcmul(half * K, of_spike, (l - k).nan_to_num(math.nan, 0.0, 0.0))
        by_logvar_p, by_k = -(by_logvar + by_d * d).sum(0), of_spike.sum() * torch.sigmoid(k) - of_spike.T @ g
        return by_mu, by_logvar, by_g, None, -by_mu.sum(0)[None], by_logvar_p[None], by_k


def _moved(mu: Tensor, logvar: Tensor, m: Tensor, logvar_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return d = (mu - m) / t, r = s^2 / t^2 and 2 K = d^2 + r - ln r - 1, twice the KL, finite as in `normal_kl`."""
    far = 0.5 * math.sqrt(torch.finfo(mu.dtype).max)
    d = ((mu - m) * exp(-0.5 * logvar_p)).clamp(-far, far)
    log_r = (logvar - logvar_p).clamp(max=largest(logvar))
    r = log_r.exp()
    return d, r, torch.addcmul(r - log_r - 1, d, d)


@register_kl(SpikeAndSlab, SpikeAndSlab)
@register_kl(ThresholdedLaplace, ThresholdedLaplace)
@register_kl(ThresholdedNormal, ThresholdedNormal)
def _kl(q: Spiked, p: Spiked) -> Tensor:
    return kl_parts(q, p).total


class _Bilinear(NamedTuple):
    """KL(q_i || p_u) = sum_j left_ij . right_uj + own_ij for the slabs, and own - a k + ln(1 + e^k) for the gates."""

    left: Tensor  # (B, 3 J): a, a (s^2 + mu^2) and a mu
    right: Tensor  # (U, 3 J): coefficients of these
    own: Tensor  # (B, J): -a (1 + ln s^2) / 2
    a: Tensor  # (B, J): gamma
    certainty: Tensor  # (B, J): less the entropy of each gate
    k: Tensor  # (U, J): spike logits of p


def _bilinear(q: SpikeAndSlab, p: SpikeAndSlab) -> _Bilinear:
    # Terms nearly cancel where slabs are narrow: a common shift helps, and costs nothing; to measure, float64.
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in (q.mu, q.spike_logits, p.mu, p.spike_logits))
    wide = q.mu.dtype if learns else _widest(q.mu)
    mu, m, logvar, logvar_p = (part.to(wide) for part in (q.mu, p.mu, q.logvar, p.logvar))
    logvar, logvar_p = logvar.clamp(max=35), logvar_p.clamp(min=-35)  # products stay finite in single precision
    l, k = (part.spike_logits.to(wide).clamp(-40, 40) for part in (q, p))  # noqa: E741
    shift = m.mean(0)
    mu, m, a = (mu - shift).clamp(-1e9, 1e9), m - shift, torch.sigmoid(l)
    left = torch.cat([a, a * (logvar.exp() + mu.square()), a * mu], -1)
    right = _quadratic(m, 0.5 * (-logvar_p).exp(), 0.5 * logvar_p)
    return _Bilinear(left, right, -0.5 * a * (1 + logvar), a, a * l + logsigmoid(-l), k)


def _no_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """Keep autocast, where there is one, from rounding the products to half precision."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _widest(like: Tensor) -> torch.dtype:
    """Return float64 on the CPU; accelerators are slow at it, and some have none."""
    return torch.float64 if like.device.type == "cpu" else like.dtype


def pairwise_kl(q: SpikeAndSlab, p: SpikeAndSlab) -> KLParts:
    """
    KL(q_i || p_u) of every pair, summed over the latents, by matrix products: no (B, U, J) tensor is made.

    The sum over j is bilinear in (gamma, gamma (s^2 + mu^2), gamma mu) of q and (ln t^2 / 2 + m^2 r, r, -2 m r) of p,
    r = 1 / (2 t^2): one product of (B, 3 J) with (3 J, U), and one more for the gates.

    Parameters
    ----------
    q : SpikeAndSlab, shape (B, J)
        The posteriors.
    p : SpikeAndSlab, shape (U, J)
        The components. Logits of either beyond +-40 count as 40 (in floats such gates are certain), log-variances
        of q beyond 35 as 35 and of p below -35 as -35, means of q beyond +-1e9 as 1e9.

    Returns
    -------
    KLParts
        Nats, shape (B, U).
    """
    with _no_autocast(q.mu):
        left, right, own, a, certainty, k = _bilinear(q, p)
        slab = left @ right.T + own.sum(-1, keepdim=True)
        spike = certainty.sum(-1, keepdim=True) - a @ k.T - logsigmoid(-k).sum(-1)
        return KLParts(slab.to(q.mu.dtype), spike.to(q.mu.dtype))


def chosen_kl(q: SpikeAndSlab, p: SpikeAndSlab, C: Tensor) -> KLParts:
    """
    Mean of KL(q_i || p_u) over the components u ~ C_i, of each latent: `pairwise_kl` before the sum over latents.

    Parameters
    ----------
    q, p : SpikeAndSlab, shapes (B, J) and (U, J)
        The posteriors and the components.
    C : torch.Tensor, shape (B, U)
        Probabilities of the components.

    Returns
    -------
    KLParts
        Nats, shape (B, J).
    """
    with _no_autocast(q.mu):
        left, right, own, a, certainty, k = _bilinear(q, p)
        C = C.to(left.dtype)
        slab = (left * (C @ right)).unflatten(-1, (3, -1)).sum(-2) + own
        spike = certainty - a * (C @ k) - C @ logsigmoid(-k)
        return KLParts(slab.to(q.mu.dtype), spike.to(q.mu.dtype))


def mixture_log_prob(z: Tensor, p: SpikeAndSlab) -> Tensor:
    """
    Return ln p_u(z_i) of hard codes under every component, by matrix products as in `pairwise_kl`.

    Parameters
    ----------
    z : torch.Tensor, shape (N, J)
        Hard codes: exactly zero where a latent is off.
    p : SpikeAndSlab, shape (U, J)
        The components.

    Returns
    -------
    torch.Tensor, shape (N, U)
        Nats, with respect to delta_0 + Lebesgue in each dimension.
    """
    with _no_autocast(z):
        wide = _widest(z)
        k, logvar, m = p.spike_logits.to(wide).clamp(-40, 40), p.logvar.to(wide).clamp(min=-35), p.mu.to(wide)
        shift, on = m.mean(0), (z != 0).to(wide)
        values = on * (z.to(wide) - shift).clamp(-1e9, 1e9)
        left = torch.cat([on, values.square(), values], -1)
        right = _quadratic(m - shift, 0.5 * (-logvar).exp(), 0.5 * (LOG_2PI + logvar) - k)
        return (logsigmoid(-k).sum(-1) - left @ right.T).to(z.dtype)


def _quadratic(m: Tensor, r: Tensor, constant: Tensor) -> Tensor:
    """Coefficients (U, 3 J) of 1, z^2 and z in constant + r (z - m)^2."""
    return torch.cat([constant + m.square() * r, r, -2 * m * r], -1)
