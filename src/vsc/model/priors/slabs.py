"""The slabs of a spike-and-slab prior: what values a latent has where it is on."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vsc.errors import UsageError
from vsc.model.priors.gates import Asked, Gates


class Slab(nn.Module, ABC):
    """N(m, t^2), the values of latents that are on; half of a `SpikeSlabPrior`."""

    @property
    def origin(self) -> Tensor | None:
        """What the posterior's means are counted from, (J,); None for zero."""
        return None

    @abstractmethod
    def of(self, asked: Asked) -> tuple[Tensor, Tensor]:
        """Return m and ln t^2, (U, J) or what broadcasts to it, of the gates' components."""


class UnitSlab(Slab):
    """N(0, 1) for every latent of every component (ICLR eq. 4)."""

    def of(self, asked):
        zero = torch.zeros_like(asked.logits)
        return zero, zero


class LearnedSlab(Slab):
    """
    N(m_j, t_j^2), learned for each latent and shared by all components, which then differ in their gates only.

    Parameters
    ----------
    latent_dim : int
        J.
    slab_mean : float
        Where every m_j starts. Away from zero, a latent that is off has a value that none has that is on, so that
        being off can say by itself that something is absent; near zero, it reads as an average value.

    Raises
    ------
    UsageError
        If slab_mean is not finite.
    """

    def __init__(self, latent_dim: int, slab_mean: float = 0.0):
        super().__init__()
        if not math.isfinite(slab_mean):
            raise UsageError(f"slab_mean must be a finite number, not {slab_mean}")
        self.mean = nn.Parameter(torch.full((latent_dim,), float(slab_mean)))
        self.logvar = nn.Parameter(torch.zeros(latent_dim))

    @property
    def origin(self):
        return self.mean

    def of(self, asked):
        return self.mean.to(asked.logits.dtype), self.logvar.to(asked.logits.dtype)


class OwnSlab(Slab):
    """
    Each component's own: the encoder's for pseudo-inputs (UAI), parameters for a mixture.

    Parameters
    ----------
    gates : Gates
        Those of the prior.

    Raises
    ------
    UsageError
        If the gates have one component.
    """

    def __init__(self, gates: Gates):
        super().__init__()
        if not gates.mixture:
            raise UsageError("slab own is for gates of several components, mixture and pseudo-inputs; choose learned")
        if not gates.encoder:
            shape = (gates.components, gates.latent_dim)
            self.mu, self.logvar = nn.Parameter(0.5 * torch.randn(shape)), nn.Parameter(torch.zeros(shape))

    def of(self, asked):
        dtype = asked.logits.dtype
        mu, logvar = (self.mu, self.logvar) if asked.encoded is None else (asked.encoded.mu, asked.encoded.logvar)
        return mu.to(dtype), logvar.to(dtype)


SLABS: dict[str, type[Slab]] = {"unit": UnitSlab, "learned": LearnedSlab, "own": OwnSlab}
