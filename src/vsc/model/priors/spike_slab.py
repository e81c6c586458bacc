"""The spike-and-slab priors: gates times slabs, and how an example chooses where there are several components."""

import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from vsc.errors import UsageError
from vsc.model.distributions import SpikeAndSlab, exp
from vsc.model.divergences import chosen_kl, kl_parts, mixture_log_prob, pairwise_kl, summed_kl
from vsc.model.priors.base import Divergence, Mixture, Posterior, Prior
from vsc.model.priors.gates import Gates
from vsc.model.priors.slabs import Slab, UnitSlab


class SpikeSlabPrior(Prior):
    """
    p(z) = 1/U sum_u prod_j [ pi_uj N(z_j; m_uj, t_uj^2) + (1 - pi_uj) delta(z_j) ]: gates times slabs.

    With one component the divergence is exact (ICLR eq. 9). With several each example chooses among them, and the
    choice is charged: with q(u|x) = C(x), E log p(x|z) - sum_u C_u KL(q(z|x) || p_u) - KL(C(x) || pi) is a bound for
    any C. The UAI paper's printed objective leaves the last term out and is none: its prior may depend on x for free.

    Parameters
    ----------
    gates : Gates
        pi, one of `GATES` or of your own.
    slab : Slab, optional
        (m, t^2), one of `SLABS` or of your own; by default N(0, 1).
    selector : callable, optional
        How C comes about, as those in `SELECTORS`; by default `optimal`.
    inputs : int, optional
        M, for selectors that look at x.

    Raises
    ------
    UsageError
        If a selector that looks at x is not told M.
    """

    def __init__(
        self, gates: Gates, slab: Slab | None = None, selector: "Selector | None" = None, inputs: int | None = None
    ):
        super().__init__()
        self.gates, self.own_slab = gates, UnitSlab() if slab is None else slab
        self.select = optimal if selector is None else selector
        self.scores = None
        if self.select is not optimal and gates.components > 1:
            if inputs is None:
                raise UsageError("a selector that looks at x needs inputs, the number of values of an example")
            self.scores = nn.Linear(inputs, gates.components)
        self.schedules, self.gates_open = gates.schedules, gates.open

    @property
    def components(self) -> int:
        """U."""
        return self.gates.components

    @property
    def alpha(self) -> float:
        """That of the gates."""
        return self.gates.alpha

    @property
    def origin(self) -> Tensor | None:
        return self.own_slab.origin

    @property
    def pace(self) -> float:
        """That of the gates; a slab's and a selector's weights keep to it."""
        return self.gates.pace

    @property
    def wants(self):
        """What the gates want: each pseudo-input starts at a training example."""
        return self.gates.wants

    def start_at(self, x):
        self.gates.start_at(x)

    def encoded(self, x, posterior):
        return self.gates.encoded(x, posterior)

    def mixed(self, posterior: Posterior | None, dtype: torch.dtype | None = None) -> SpikeAndSlab:
        """Return the U components, (U, J), at least in single precision; by default in that of the prior itself."""
        if dtype is None:
            dtype = next((t.dtype for t in chain(self.parameters(), self.buffers())), torch.float32)
        asked = self.gates.asked(posterior, torch.promote_types(dtype, torch.float32))
        return SpikeAndSlab(*self.own_slab.of(asked), spike_logits=asked.logits, validate_args=False)

    def kl(self, qz, x, posterior):
        """Return the bound's parts in nats, shape (B,) each; `penalty` is J KL(Bern(mean gamma_u) || Bern(alpha))."""
        parts = self.mixed(posterior, qz.mu.dtype)
        if self.components == 1:
            slab, spike = summed_kl(qz, parts)
            return Divergence(slab, spike, torch.zeros_like(slab), self._penalty(parts, slab))
        pairs = pairwise_kl(qz, parts)  # (B, U) each
        log_C = self.choice(x, pairs.total)  # ln q(u|x)  (B, U)
        C = log_C.exp()
        selection = (C * log_C).sum(-1) + math.log(self.components)
        slab, spike = ((C * part).sum(-1) for part in pairs)
        return Divergence(slab, spike, selection, self._penalty(parts, slab))

    def _penalty(self, parts: SpikeAndSlab, like: Tensor) -> Tensor:
        """Return what `train.penalty` weighs (UAI), for the loss alone; zero where the gates do not hear of it."""
        if "penalty" not in self.schedules:
            return torch.zeros_like(like)
        return (self.gates.latent_dim * _bernoulli_kl(parts.gamma.mean(), self.alpha)).expand_as(like)

    def latent_kl(self, qz, x, posterior):
        parts = self.mixed(posterior, qz.mu.dtype)
        if self.components == 1:
            return kl_parts(qz, parts).total
        return chosen_kl(qz, parts, self.choice(x, pairwise_kl(qz, parts).total).exp()).total

    def choice(self, x: Tensor, kl: Tensor) -> Tensor:
        """Return ln q(u|x), (B, U), of model inputs x (B, M), given the KL to every component (B, U)."""
        if self.scores is None:
            return self.select(None, kl)
        told = torch.where(x.isnan(), 0.0, x).to(self.scores.weight.dtype)  # what is missing says nothing
        return self.select(self.scores(told).to(kl.dtype), kl)

    def slab(self, qz, x, n, posterior):
        """Draw u ~ C(x) anew for each of the n values, and the value from its slab."""
        parts = self.mixed(posterior, qz.mu.dtype)  # (U, J)
        if self.components == 1:
            return parts[0].slab((len(x), n))
        C = self.choice(x, pairwise_kl(qz, parts).total).exp()  # q(u|x)  (B, U)
        return parts[torch.multinomial(C, n, replacement=True)].slab()

    def sample(self, n, posterior):
        """Draw u ~ pi and z from component u, shape (n, J)."""
        parts = self.mixed(posterior)
        if self.components == 1:
            return parts[0].sample((n,))
        return parts[torch.randint(self.components, (n,), device=parts.mu.device)].sample()

    def mixture(self, posterior):
        parts = self.mixed(posterior)
        return Mixture(parts.gamma, parts.mu, exp(0.5 * parts.logvar), "normal")

    def log_prob(self, z, posterior):
        """Return ln 1/U sum_u p_u(z), shape (N,)."""
        parts = self.mixed(posterior, z.dtype)
        if self.components == 1:
            return parts[0].log_prob(z).sum(-1)
        return mixture_log_prob(z, parts).logsumexp(-1) - math.log(self.components)


def _bernoulli_kl(g: Tensor, alpha: float) -> Tensor:
    g = g.clamp(1e-6, 1 - 1e-6)  # gates that are all certain would have no gradient but NaN
    return g * torch.log(g / alpha) + (1 - g) * torch.log((1 - g) / (1 - alpha))


Selector = Callable[[Any, Tensor], Tensor]
"""(scores of a linear layer on x (B, U), KL to every component (B, U)) -> ln q(u|x) (B, U), normalised."""


def optimal(scores: None, kl: Tensor) -> Tensor:
    """
    Choose q(u|x) proportional to exp(-KL_u): the best choice there is, with nothing to learn (Hershey & Olsen 2007).

    The bound's gradient through this choice is zero, so none is kept. Where training weighs the KL otherwise (`beta`
    other than 1) it is still the choice of the unweighted bound: best for what is reported, and a heuristic for the
    loss.
    """
    return log_softmax(-kl.detach(), -1)


def softmax(scores: Tensor, kl: Tensor) -> Tensor:
    """Choose by one linear layer on x and a softmax: UAI's classifier, read as q(u|x)."""
    return log_softmax(scores, -1)


def paper(scores: Tensor, kl: Tensor) -> Tensor:
    """
    Choose as the UAI paper prints it: outputs c normalised to sum 1, then S(60 (c_u - 1/2)).

    Those weights are nearly all 0 or 1 but sum to anything; they are normalised here, so that the choice can be
    charged. In the paper it is not, and the objective is no bound.
    """
    return log_softmax(logsigmoid(60 * (torch.softmax(scores, -1) - 0.5)), -1)


def released(scores: Tensor, kl: Tensor) -> Tensor:
    """
    Choose as the UAI paper's released code does: a sigmoid of each output, over their L2 norm.

    Those weights do not sum to 1; they are normalised here, which the norm drops out of, so that the choice can be
    charged. In that code it is not, and the objective is no bound.
    """
    return log_softmax(logsigmoid(scores), -1)


SELECTORS: dict[str, Selector] = {"optimal": optimal, "softmax": softmax, "paper": paper, "released": released}
