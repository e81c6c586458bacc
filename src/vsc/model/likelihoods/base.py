"""What a likelihood is, and the means of what is there."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

RESPONSES = ("identity", "sigmoid", "exp", "softmax", "continuous-bernoulli")
"""Functions that a mean can be made by; `report/decode.js` has them too."""


class Likelihood(nn.Module, ABC):
    """
    p(x|z), given the decoder's raw output `out` (B, width).

    Attributes
    ----------
    outputs : int
        Decoder outputs per data dimension; `width` is how many there are for all.
    unit_interval : bool
        Whether x must lie in [0, 1].
    counts : bool
        Whether x must be whole numbers from 0, as they are stored.
    own_units : bool
        Whether model units differ from column to column, so that errors are told in standard deviations of each.
    learns_variances : bool
        Whether it does, which can run away in training: the KL rises slowly then, and gradients are clipped.
    response : str
        Name of the function that makes `mean` of the first M outputs, for whoever decodes elsewhere (`RESPONSES`);
        empty where there is none.
    """

    outputs = 1
    unit_interval = False
    counts = False
    own_units = False
    learns_variances = False
    response = ""

    @property
    def precision(self) -> Tensor | None:
        """1 / variance, shape (), of a Gaussian with one variance for all values, whatever the outputs; else None."""
        return None

    def width(self, M: int) -> int:
        """Return how many outputs the decoder has for examples of M values."""
        return self.outputs * M

    def counted(self, M: int) -> Tensor:
        """Return which of the M values are counts, (M,), bool: the encoder of a model from settings sees ln(1 + x)."""
        return torch.full((M,), self.counts, device="cpu")

    def unscaled(self, M: int) -> Tensor:
        """Return which of the M values must reach the model as they are stored, (M,), bool."""
        return self.counted(M)

    @abstractmethod
    def terms(self, x: Tensor, out: Tensor) -> Tensor:
        """Return log p of each value of x (B, M) in nats, (B, M): finite or -inf for finite x and outputs."""

    def log_prob(self, x: Tensor, out: Tensor, missing: bool = False) -> Tensor:
        """
        Return log p(x|z), the sum of the terms.

        Parameters
        ----------
        x : torch.Tensor, shape (B, M)
            Model inputs.
        out : torch.Tensor, shape (B, width)
            The decoder's.
        missing : bool
            Whether values of x may be NaN: they add nothing, and no gradient, so that it is log p of what is there.

        Returns
        -------
        torch.Tensor, shape (B,)
            Nats.
        """
        if not missing:
            return self.terms(x, out).sum(-1)
        there = ~x.isnan()
        return torch.where(there, self.terms(torch.where(there, x, 0.0), out), 0.0).sum(-1)

    @abstractmethod
    def mean(self, out: Tensor) -> Tensor:
        """Return E[x|z], shape (B, M)."""

    @abstractmethod
    def sample(self, out: Tensor) -> Tensor:
        """Draw x ~ p(x|z), shape (B, M)."""

    @abstractmethod
    def constant(self, x: Tensor) -> Tensor:
        """Return the output (width,) that, the same for all of x (N, M), has the highest likelihood; NaN is missing."""

    def without_latents(self, x: Tensor) -> tuple["Likelihood", Tensor]:
        """Return the best that a model without latents can do on x (N, M): a likelihood and its `constant` output."""
        return self, self.constant(x)

    def start_at(self, x: Tensor) -> None:
        """Begin training at what suits x (N, M), as far as that is the likelihood's own."""

    def at_floor(self, out: Tensor) -> Tensor | None:
        """Return the share of an example's outputs whose variance is below 10 floors, shape (B,); None: no floor."""
        return None

    def responses(self, M: int) -> list[tuple[str, int, int]]:
        """Say how `mean` is made, M values in order: (name in `RESPONSES`, first output, how many); [] if unknown."""
        return [(self.response, 0, M)] if self.response else []

    @property
    def label(self) -> str:
        """Name for tables, with every setting that its nats depend on."""
        return type(self).__name__.lower()


def exactly(x: Tensor) -> Tensor:
    """Return x on the CPU in float64, which not every accelerator has."""
    return x.cpu().double()


def mean_there(x: Tensor) -> Tensor:
    """Return the column means of x (N, M) without what is NaN, in float64; 0 for a column of nothing else."""
    return exactly(x).nanmean(0).nan_to_num(0.0)


def mean_inside(x: Tensor) -> Tensor:
    """Return the same with half an example at 0 and half a one at 1 added: no outcome is impossible."""
    return (exactly(x).nansum(0) + 0.5) / ((~x.cpu().isnan()).sum(0) + 1)
