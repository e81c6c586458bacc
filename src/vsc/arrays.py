"""Whatever users hold numbers in, as a plain array with the names of its columns: the one place where that is done."""

import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vsc.errors import UsageError, listed

if TYPE_CHECKING:
    from pandas import DataFrame

Array = ArrayLike | Tensor
"""An array, a tensor, a nested list or anything else that `plain` takes."""
DENSE = 2**34
"""Bytes that a sparse array may take once it is dense."""
KEPT = 1e-4
"""The share of a column's spread that may be lost to float32; where more would be, values stay float64."""


class Plain(NamedTuple):
    """Numbers, or labels, as given, of this machine's byte order; the columns' names, where what was given has some."""

    values: NDArray[Any]
    names: tuple[str, ...] = ()


def plain(x: Any, what: str = "x") -> Plain:
    """
    Return what a user gives as an array, together with the names of its columns; missing values become NaN.

    It may be an array, a tensor (dense or sparse, on any device), a nested list, a SciPy sparse array, a data frame
    with `columns` (pandas, polars) or `column_names` (pyarrow), or a structured array. The type stays, or is float64
    where columns differ in type. Complaints call it `what`; they name all columns that are not numeric.
    """
    if is_frame(x):
        frame = as_frame(x, what)
        return _columns(list(frame.columns), [frame[name] for name in frame.columns], what)
    values = _native(_array(x, what))
    if values.dtype.names:
        return _columns(list(values.dtype.names), [values[name] for name in values.dtype.names], what)
    return Plain(values)


def is_frame(x: Any) -> bool:
    """Say whether something is a data frame: of pandas or polars, or a table of pyarrow."""
    return hasattr(x, "columns") and (hasattr(x, "to_numpy") or hasattr(x, "to_pandas"))


def as_frame(x: Any, what: str = "x") -> "DataFrame":
    """Return a data frame of any kind as one of pandas, its names as text; UsageError if two columns share one."""
    from pandas import DataFrame

    x = x.to_pandas() if hasattr(x, "column_names") else x
    names = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in x.columns]
    check_distinct(names, what)
    if isinstance(x, DataFrame):
        return x.set_axis(names, axis=1)
    return DataFrame({name: x[name].to_numpy() for name in names})


def numeric(x: Any, what: str = "x") -> Plain:
    """Return what `plain` does, or refuse what does not hold real numbers; Python's own numbers become float64."""
    values, names = plain(x, what)
    match values.dtype.kind:
        case "b" | "i" | "u" | "f":
            return Plain(values, names)
        case "c":
            raise UsageError(f"{what} is complex; give its real and imaginary parts as separate features")
        case "O":
            found = from_objects(values)
            if found is None:
                raise UsageError(f"{what} holds Python objects that are no numbers; give a plain numeric array")
            return Plain(found, names)
        case _:
            kind = "text" if values.dtype.kind in "US" else values.dtype
            raise UsageError(f"{what} has type {kind}, which is not numeric; encode it as numbers")


def as_stored(array: NDArray[Any]) -> NDArray[Any]:
    """
    Return a copy of numbers (N, ...) in the type in which examples are kept.

    uint8 stays; all else becomes float32, in which a value too large is infinite, unless some column would lose more
    than `KEPT` of its spread by that, as seconds since 1970 do: then float64.
    """
    single = (blur := Blur()).single(array)
    return array.astype(np.float64, order="C") if blur.found else single


class Blur:
    """Finds out, part by part, whether a column of an array loses more than `KEPT` of its spread in float32."""

    def __init__(self) -> None:
        self._low = self._top = self._lost = np.zeros(0)

    def single(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of rows (n, ...) as float32, or uint8 as they are, and note what is lost."""
        with np.errstate(over="ignore"):
            single = array.astype(np.uint8 if array.dtype == np.uint8 else np.float32, order="C")
        self._see(array, single)
        return single

    def _see(self, array: NDArray[Any], single: NDArray[Any]) -> None:
        if array.dtype.itemsize <= 2 or array.dtype.kind == "b" or array.dtype == np.float32 or not array.size:
            return
        low, top = (end.reduce(array, 0).astype(np.float64) for end in (np.fmin, np.fmax))  # of what is not missing
        lost = np.zeros(low.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            close = np.maximum(abs(low), abs(top)) * 2.0**-24 <= KEPT * (top - low)  # rounding costs no more than that
            if not close.all():
                lost[~close] = np.fmax.reduce(abs(array[:, ~close] - single[:, ~close].astype(np.float64)), 0)
        if self._low.size:
            low, top = np.minimum(low, self._low), np.maximum(top, self._top)
            lost = np.maximum(lost, self._lost)
        self._low, self._top, self._lost = low, top, lost

    @property
    def found(self) -> bool:
        """Whether a column of what was seen does."""
        with np.errstate(over="ignore", invalid="ignore"):
            spread = self._top - self._low
            return bool((np.isfinite(self._lost) & (self._lost > KEPT * spread) & (spread > 0)).any())


def check_distinct(names: list[str], what: str) -> None:
    """Refuse columns that share a name."""
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = dict.fromkeys(name for name in names if name in seen or seen.add(name))
        raise UsageError(f"{what} has more than one column named {listed(twice)}; names must differ")


def column_order(features: Sequence[str], columns: Sequence[str]) -> list[int] | None:
    """
    Say where the columns called `features` lie in the order `columns`, which must be the same names.

    None if they are in this order already, or if either has no names.
    """
    if not features or not columns or tuple(features) == tuple(columns):
        return None
    there, wanted = set(features), set(columns)
    missing, new = [name for name in columns if name not in there], [name for name in features if name not in wanted]
    if missing or new:
        told = [f"no {listed(missing)}"] * bool(missing) + [f"unknown {listed(new)}"] * bool(new)
        raise UsageError(f"the columns are not those of the model ({'; '.join(told)}); rename, add or remove columns")
    place = {name: i for i, name in enumerate(features)}
    return [place[name] for name in columns]


def _array(x: Any, what: str) -> NDArray[Any]:
    if isinstance(x, Tensor):
        if x.layout != torch.strided:
            _check_dense(tuple(x.shape), x.element_size(), what)
            x = x.to_dense()
        x = (x.dequantize() if x.is_quantized else x).detach().cpu().resolve_conj().resolve_neg()
        return (x.float() if x.dtype.itemsize < 4 and x.is_floating_point() else x).numpy()
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        _check_dense(x.shape, x.dtype.itemsize, what)
        return np.asarray(x.toarray())
    if np.ma.isMaskedArray(x) and (count := int(np.ma.count_masked(x))):
        raise UsageError(f"{what} has {count} masked {'value' if count == 1 else 'values'}; fill them or remove rows")
    try:
        return np.asarray(x)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise UsageError(f"{what} cannot be made an array; all its rows must have the same length") from error


def _check_dense(shape: tuple[int, ...], size: int, what: str) -> None:
    if math.prod(shape) * size > DENSE:
        raise UsageError(
            f"{what} is sparse and would take {math.prod(shape) * size / 2**30:.0f} GiB as {tuple(shape)} values; "
            "give fewer columns, or a memory-mapped .npy file"
        )


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _columns(names: list[str], columns: list[Any], what: str) -> Plain:
    """Put columns of their own types together; name all that are not numeric."""
    found, bad = [], []
    for name, column in zip(names, columns, strict=True):
        values: NDArray[Any] | None = _native(_array(column, f"column {name!r} of {what}"))
        if values.dtype.kind == "O":
            values = from_objects(values)
        if values is None or values.ndim != 1 or values.dtype.kind not in "biuf":
            bad.append(name)
        else:
            found.append(values)
    if bad:
        raise UsageError(f"{what} has columns that are not numeric: {listed(bad)}; encode or remove them")
    if not found:
        raise UsageError(f"{what} has no columns")
    same = len({values.dtype for values in found}) == 1
    return Plain(np.column_stack(found if same else [values.astype(np.float64) for values in found]), tuple(names))


def from_objects(values: NDArray[Any]) -> NDArray[np.float64] | None:
    """Return Python's numbers, and what is missing as NaN, as float64; None if anything is neither."""
    out = np.empty(values.size)
    for i, value in enumerate(values.flat):
        if value is None or type(value).__name__ in ("NAType", "NaTType"):
            out[i] = math.nan
        elif isinstance(value, Real | Decimal | Fraction | np.bool_):
            try:
                out[i] = float(value)
            except OverflowError:
                out[i] = math.inf
        else:
            return None
    return out.reshape(values.shape)
