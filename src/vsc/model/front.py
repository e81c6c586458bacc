"""What stands before an encoder whose inputs are counts, or may be missing."""

import torch
from torch import Tensor, nn

from vsc.model.scaling import moments_there


class Front(nn.Module):
    """
    Make inputs that any net can read of model inputs x (B, M) that are counts or NaN, where they are missing.

    A count becomes ln(1 + x), standardised once it is fitted; what is missing becomes 0, and M inputs more say of each
    value whether it is, if any may be.

    Parameters
    ----------
    counted : torch.Tensor, shape (M,), bool
        Which are counts.
    missing : bool
        Whether values may be missing.

    Attributes
    ----------
    width : int
        Inputs of the net: M, or 2 M.
    """

    counted: Tensor
    shift: Tensor
    factor: Tensor

    def __init__(self, counted: Tensor, missing: bool):
        super().__init__()
        self.missing, self.width = missing, len(counted) * (1 + missing)
        self.register_buffer("counted", counted, persistent=False)
        self.register_buffer("shift", torch.zeros(len(counted)))
        self.register_buffer("factor", torch.ones(len(counted)))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Standardise the counts among training inputs x (N, M), as far as they are there."""
        mean, sd = moments_there(self._logs(x))
        varied = self.counted & (sd > 0)
        self.shift.copy_(torch.where(varied, mean, 0.0))
        self.factor.copy_(torch.where(varied, 1 / sd, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the net reads, (B, width)."""
        there = ~x.isnan()
        read = torch.where(there, (self._logs(x) - self.shift.to(x.dtype)) * self.factor.to(x.dtype), 0.0)
        return torch.cat([read, (~there).to(x.dtype)], -1) if self.missing else read

    def _logs(self, x: Tensor) -> Tensor:
        return torch.where(self.counted, torch.log1p(x.clamp_min(0)), x)
