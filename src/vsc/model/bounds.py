"""Lower bounds of log p(x) and their terms: one value per example, in nats."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Bound(NamedTuple):
    """
    The terms of an ELBO, and what training may add to the loss.

    Attributes
    ----------
    log_px : torch.Tensor, shape (B,)
        An estimate of E_q log p(x|z).
    kl_slab, kl_spike, kl_selection : torch.Tensor, shape (B,)
        What the code costs: its values, its gates, and the choice among the prior's components (zero where a model
        has no gates, or one component). Their sum is at least KL(q(z|x) || p(z)).
    gamma : torch.Tensor, shape (B, J)
        The spike probabilities, 1 in a model without gates. Not part of the bound.
    penalty : torch.Tensor, shape (B,)
        What `train.penalty` weighs in the loss. Not part of the bound.
    total_correlation : torch.Tensor, shape (B,)
        What `train.total_correlation` weighs in the loss: how far the slabs of a batch, or the codes, depend on each
        other. Measured only where it has a weight; not part of the bound.
    """

    log_px: Tensor
    kl_slab: Tensor
    kl_spike: Tensor
    kl_selection: Tensor
    gamma: Tensor
    penalty: Tensor
    total_correlation: Tensor

    @property
    def kl(self) -> Tensor:
        """The whole price of the code, shape (B,)."""
        return self.kl_slab + self.kl_spike + self.kl_selection

    @property
    def elbo(self) -> Tensor:
        """E_q log p(x|z) - KL, shape (B,); higher is better."""
        return self.log_px - self.kl

    @property
    def l0(self) -> Tensor:
        """Expected number of active latents, sum_j gamma_j, shape (B,)."""
        return self.gamma.sum(-1)

    @property
    def terms(self) -> Tensor:
        """The bound's terms and l0, shape (B, 5), as `TERMS` names them."""
        return torch.stack([self.log_px, self.kl_slab, self.kl_spike, self.kl_selection, self.l0], -1)

    def weighted(
        self, beta: float = 1.0, prices: Tensor | None = None, penalty: float = 0.0, total_correlation: float = 0.0
    ) -> Tensor:
        """
        Return what training maximises, shape (B,): the ELBO with weights, less penalties.

        E_q log p(x|z) - beta KL - sum_j prices_j gamma_j - penalty - total correlation.

        Parameters
        ----------
        beta : float
            Weight of the KL.
        prices : torch.Tensor, shape (J,), optional
            Nats that each latent costs where it is on, on top of what the prior charges.
        penalty : float
            Weight of `penalty`.
        total_correlation : float
            Weight of `total_correlation`.

        Returns
        -------
        torch.Tensor, shape (B,)
            A bound only for beta >= 1 and the others >= 0.
        """
        total = self.log_px - beta * self.kl
        total = total if prices is None else total - self.gamma @ prices.to(self.gamma.dtype)
        total = total - penalty * self.penalty if penalty else total
        return total - total_correlation * self.total_correlation if total_correlation else total


TERMS = ("log_px", "kl_slab", "kl_spike", "kl_selection", "l0")
"""What `Bound.terms` holds."""


def simple(
    log_px: Tensor,
    gamma: Tensor,
    kl: Tensor | None = None,
    penalty: Tensor | None = None,
    total_correlation: Tensor | None = None,
) -> Bound:
    """
    Return the terms of a model that pays for neither gates nor a choice; those that it does not give are zero.

    Parameters
    ----------
    log_px, kl, penalty, total_correlation : torch.Tensor, shape (B,)
        Nats, as in `Bound`; kl is that of the slabs.
    gamma : torch.Tensor, shape (B, J)
        1 where a latent is on.
    """
    zero = torch.zeros_like(log_px)
    kl, penalty, tc = (zero if term is None else term for term in (kl, penalty, total_correlation))
    return Bound(log_px, kl, zero, zero, gamma, penalty, tc)


def importance_weighted(log_weights: Tensor) -> Tensor:
    """
    Return ln 1/K sum_k exp(ln w_k): its mean is the importance-weighted bound L_K (Burda et al. 2015).

    Parameters
    ----------
    log_weights : torch.Tensor, shape (K, B)
        ln p(x|z_k) + ln p(z_k) - ln q(z_k|x) at draws z_k of q.

    Returns
    -------
    torch.Tensor, shape (B,)
        Nats. Its expectation never falls with K; K = 1 is the ELBO.
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def total_correlation(log_q: Tensor) -> Tensor:
    """
    Return ln q(z) - sum_j ln q(z_j), by minibatch-weighted sampling (Chen et al. 2018, eq. S4).

    Its mean says how far the latents are from independent; the batch is taken for the data set, which a larger one
    would move by a constant.

    Parameters
    ----------
    log_q : torch.Tensor, shape (B, B, J)
        ln q(z_ij | x_k) at [i, k, j], of one draw z_i for each example of the batch.

    Returns
    -------
    torch.Tensor, shape (B,)
        Nats.
    """
    log_size = math.log(len(log_q))
    log_qz = log_q.sum(-1).logsumexp(1) - log_size
    return log_qz - (log_q.logsumexp(1) - log_size).sum(-1)
