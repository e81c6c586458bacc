"""The evidence lower bound and its terms: one value per example, in nats."""

from typing import NamedTuple

from torch import Tensor


class Bound(NamedTuple):
    """
    The terms of an ELBO.

    Attributes
    ----------
    log_px : torch.Tensor, shape (B,)
        An estimate of E_q log p(x|z).
    kl_slab, kl_spike : torch.Tensor, shape (B,)
        KL(q(z|x) || p(z)): its continuous part, and that of the gates (zero for models without).
    """

    log_px: Tensor
    kl_slab: Tensor
    kl_spike: Tensor

    @property
    def kl(self) -> Tensor:
        """KL(q(z|x) || p(z)), shape (B,)."""
        return self.kl_slab + self.kl_spike

    @property
    def elbo(self) -> Tensor:
        """E_q log p(x|z) - KL, shape (B,); higher is better."""
        return self.log_px - self.kl

    def weighted(self, beta: float = 1.0) -> Tensor:
        """E_q log p(x|z) - beta KL, shape (B,): what training maximises. A bound only for beta >= 1."""
        return self.log_px - beta * self.kl
