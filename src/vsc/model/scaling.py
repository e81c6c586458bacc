"""How stored values become model inputs, and back."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vsc.arrays import as_frame, column_order, numeric
from vsc.errors import UsageError, choose
from vsc.fields import Field, expand


class Chunked(ABC):
    """
    Examples (N, M) that are read a few rows at a time, in place of a tensor that holds them all.

    Attributes
    ----------
    shape : tuple of int
        (N, M).
    dtype : torch.dtype
        uint8 or float32.
    """

    PART = 2**24
    """Bytes that one part may take."""

    shape: tuple[int, int]
    dtype: torch.dtype

    @abstractmethod
    def split(self, rows: int) -> Iterator[Tensor]:
        """Yield all examples in their order, (rows, M) at a time; the last part may be shorter."""

    def parts(self) -> Iterator[Tensor]:
        """Yield all examples in their order, as many at a time as `PART` allows."""
        return self.split(max(1, self.PART // self.row_bytes))

    @property
    def row_bytes(self) -> int:
        """Bytes of one example in memory."""
        return self.shape[1] * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def min(self) -> Tensor:
        """Return the smallest value."""
        return self._range[0]

    def max(self) -> Tensor:
        """Return the largest value."""
        return self._range[1]

    def mean(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the mean of all values, which is summed in float64 whatever the `dtype` that it is returned in."""
        return (_total(part.sum(dtype=torch.float64) for part in self.parts()) / math.prod(self.shape)).to(dtype)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every column, shape (M,)."""
        return _moments(self.parts, len(self))

    @cached_property
    def _range(self) -> tuple[Tensor, Tensor]:
        low, top = zip(*((part.min(), part.max()) for part in self.parts()), strict=True)
        return torch.stack(low).min(), torch.stack(top).max()


Examples = Tensor | Chunked


class Scaler(nn.Module):
    """
    x -> (x - shift) * factor, then unit L2 norm per example if `unit_norm`; kept with the model it was fitted for.

    Moving a model moves it too but never rounds it: in half precision a mean would be another one.

    Parameters
    ----------
    kind : str
        Name in `SCALES`.
    shift, factor : torch.Tensor, shape (1,) or (M,)
        The affine map from stored values to model inputs. The shift is float64 where the training data are: they are
        centred before they are rounded to float32.
    high : float, optional
        The stored value that means 1 (`Dataset.high`).
    """

    shift: Tensor
    factor: Tensor

    def __init__(self, kind: str, shift: Tensor, factor: Tensor, high: float | None = None):
        super().__init__()
        choose(SCALES, kind, "scale")
        self.kind, self.high = kind, high
        self.register_buffer("shift", shift)
        self.register_buffer("factor", factor)
        self._shifts = shift.is_meta or bool((shift != 0).any())  # the usual image case is one multiplication

    def forward(self, x: Tensor) -> Tensor:
        """Map stored values (B, M), uint8 or float, wherever they are, to model inputs (B, M), float32."""
        stored, exact = x.dtype, x.dtype == self.shift.dtype == torch.float64
        x = x if exact or not x.is_floating_point() else x.float()
        x = x.to(self.shift.device)
        x = ((x - self.shift).to(self.factor) if self._shifts else x.to(self.factor.device)) * self.factor
        if self.kind == "unit-norm":
            x = x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        elif self.kind == "unit-interval" and stored != torch.uint8:
            x = x.clamp_(0, 1)  # a range that was read off the training set may not hold elsewhere
        return x.to(self.factor.dtype)

    def inverse(self, x: Any) -> Tensor:
        """Map model units (..., M), an array or a tensor, back to stored values; the norm of `unit-norm` is lost."""
        return torch.as_tensor(x) / self.factor + self.shift

    def checked(self, x: Examples) -> Examples:
        """Return stored examples, unless they are plainly in other units than those of the training data."""
        if self.high is None or isinstance(x, Chunked) or not len(_there(x)):
            return x
        top, high = float(_there(x).max()), self.high
        known = f"the training data had values from 0 to {high:g}"
        if high > 1 and x.is_floating_point() and 0 < top <= 1:
            raise UsageError(f"{known}, and these lie in [0, 1]; multiply them by {high:g}")
        if top > 2 * high:
            raise UsageError(f"{known}, and these go up to {top:g}; divide them by what means 1")
        return x

    def _apply(self, fn, recurse=True):
        """Move the map to where `fn` takes tensors; where there is no float64, such a shift stays behind."""
        device = fn(self.factor).device
        self.factor = self.factor.to(device)
        stays = device.type == "mps" and self.shift.dtype == torch.float64
        self.shift = self.shift if stays else self.shift.to(device)
        return self


def identity() -> Scaler:
    """Return the scaler that takes values as they are stored."""
    return Scaler("none", torch.zeros(1, dtype=torch.float32), torch.ones(1, dtype=torch.float32))


def _none(x: Examples, high: float | None) -> tuple[Tensor, Tensor]:
    return torch.zeros(1), torch.ones(1)


def _unit_interval(x: Examples, high: float | None) -> tuple[Tensor, Tensor]:
    if high is not None:
        return torch.zeros(1), torch.tensor([1.0 / high])
    x = _there(x)
    low, top = x.min().double(), x.max().double()
    # data of one value have no range of their own: they become zero rather than undefined
    factor = 1.0 / (top - low) if top > low else torch.ones(1)
    return low.reshape(1), factor.reshape(1)


def _standard(x: Examples, high: float | None) -> tuple[Tensor, Tensor]:
    if isinstance(x, Chunked):
        mean, std = x.moments
    elif x.is_floating_point() and x.isnan().any():
        mean, std = moments_there(x)
    else:
        mean, std = _moments(lambda: x.split(_rows(x)), len(x))
    # a constant column has no scale of its own: it becomes zero rather than infinite
    return mean, torch.where(std > CONSTANT * mean.abs(), 1.0 / std, 1.0).clamp(max=torch.finfo(torch.float32).max)


CONSTANT = 1e-12
"""Standard deviation, as a share of a column's mean, that is left of a constant by rounding in float64."""


def _moments(parts: Callable[[], Iterable[Tensor]], N: int) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of every column, float64, in two passes over N rows."""
    mean = _total(part.sum(0, dtype=torch.float64) for part in parts()) / N
    square = _total((part.double() - mean).square().sum(0) for part in parts()) / N
    return mean, square.sqrt()


def moments_there(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same of x (N, M) without what is NaN; 0 and 0 for a column of nothing else."""
    mean = x.double().nanmean(0).nan_to_num(0.0)
    return mean, (x.double() - mean).square().nanmean(0).nan_to_num(0.0).sqrt()


def _there(x: Examples) -> Examples:
    """Return the values of examples that are not missing, in any shape."""
    return x[~x.isnan()] if isinstance(x, Tensor) and x.is_floating_point() and x.isnan().any() else x


def _rows(x: Examples) -> int:
    """Return how many rows to take at a time, so that they need little memory in float64."""
    return max(1, 2**22 // x.shape[1])


def _total(parts: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, parts)


def _unit_norm(x: Examples, high: float | None) -> tuple[Tensor, Tensor]:
    return torch.zeros(1), torch.tensor([1.0 / (high or 1.0)])


def _whole(x: Examples, high: float | None) -> tuple[Tensor, Tensor]:
    total = there = torch.zeros((), dtype=torch.float64)
    for part in x.split(_rows(x)):
        total, there = total + part.double().square().nansum(), there + (~part.isnan()).sum()
    # data of nothing but zeros have no scale
    return torch.zeros(1), torch.where(total > 0, (there / total).sqrt(), 1.0).reshape(1)


SCALES: dict[str, Callable[[Examples, float | None], tuple[Tensor, Tensor]]] = {
    "unit-interval": _unit_interval,
    "unit-norm": _unit_norm,
    "standard": _standard,
    "whole": _whole,
    "none": _none,
}


def fit_scaler(kind: str, x: Examples, high: float | None, unscaled: Tensor | None = None) -> Scaler:
    """
    Fit a scaler to the training examples.

    Parameters
    ----------
    kind : str
        `unit-interval`: to [0, 1], by `high` if it is known, else by the smallest and largest value of the training
        set; `unit-norm`: every example to L2 norm 1 (ICLR, UAI); `standard`: every column to mean 0 and variance 1;
        `whole`: one factor for all, so that the mean square of a value is 1, and columns keep their relations;
        `none`: values as they are stored.
    x : torch.Tensor or Chunked, shape (N, M)
        Training examples as stored; NaN is missing, and stays so.
    high : float or None
        The stored value that means 1 (`Dataset.high`).
    unscaled : torch.Tensor, shape (M,), bool, optional
        Columns that `standard` leaves as they are.

    Returns
    -------
    Scaler
        The fitted map.

    Raises
    ------
    UsageError
        If the kind is unknown.
    """
    shift, factor = choose(SCALES, kind, "scale")(x, high)
    if unscaled is not None and unscaled.any():
        shift, factor = torch.where(unscaled, 0.0, shift), torch.where(unscaled, 1.0, factor)
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    return Scaler(kind, shift.to(exact), factor.float(), high)


def as_examples(
    x: Any, M: int, columns: Sequence[str] = (), fields: Sequence[Field] = (), missing: bool = False
) -> Examples:
    """
    Check stored examples, whatever they are held in, and flatten them.

    Parameters
    ----------
    x : array_like, data frame or Chunked, shape (N, ...)
        All that `vsc.arrays.plain` takes; each example has M values. What is read as it is needed was checked
        when it was opened, and stays as it is.
    M : int
        Values that an example must have.
    columns : sequence of str
        Names of the M columns; those of a data frame are put into this order.
    fields : sequence of vsc.fields.Field
        What the columns of a table are, where they are known: a data frame is read by them.
    missing : bool
        Whether values may be NaN.

    Returns
    -------
    torch.Tensor or Chunked, shape (N, M)
        The same values: uint8 and float64 as they are, all else as float32.

    Raises
    ------
    UsageError
        If the shape or the names do not fit, or a value is not a finite number.
    """
    names: tuple[str, ...] = ()
    if isinstance(x, Tensor) and x.layout == torch.strided and not x.is_complex():
        x = x.detach()
    elif fields and (hasattr(x, "columns") or hasattr(x, "column_names")):
        x = torch.from_numpy(expand(as_frame(x), fields))
    elif not isinstance(x, Chunked):
        values, names = numeric(x)
        order = column_order(names, columns)
        x = torch.from_numpy(np.require(values if order is None else values[:, order], requirements=["C", "W"]))
    if len(x.shape) < 2 or math.prod(x.shape[1:]) != M:
        raise UsageError(f"expected examples of {M} values each, (N, {M}), but got an array of shape {tuple(x.shape)}")
    if isinstance(x, Chunked):
        return x
    x = x.reshape(len(x), M)
    x = x if x.dtype in (torch.uint8, torch.float64) else x.to(torch.float32)
    if not x.is_floating_point() or torch.isfinite(x.float()).all():
        return x
    if fields and not x.float().isinf().any():
        if missing:
            return x
        raise UsageError("values are missing, and the model was trained on data where none were; fill them first")
    raise UsageError("the array has NaN or infinite values; remove or fill them first")
