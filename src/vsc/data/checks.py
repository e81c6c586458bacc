"""What is asked of examples and labels before they are used, and the form that they then have."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsc.arrays import Array, as_stored, numeric
from vsc.errors import UsageError

CHANNELS = (1, 3, 4)


def examples(x: Array, what: str, fewest: int) -> tuple[Tensor, tuple[int, ...]]:
    """
    Check examples and copy them into the form that everything else expects.

    Parameters
    ----------
    x : array-like or torch.Tensor
        N examples.
    what : str
        Their name, for complaints.
    fewest : int
        How many there must be; where more than one must be, they must not all be one single value either.

    Returns
    -------
    values : torch.Tensor, shape (N, M), uint8 or float32
        The examples.
    shape : tuple of int
        Shape of one.

    Raises
    ------
    UsageError
        As `vsc.data.from_arrays` does.
    """
    array = numeric(x, what).values
    check_shape(array.shape, what, fewest)
    check_finite(array, what)
    array = as_stored(channels_first(array, what))
    check_finite(array, f"{what}, as float32,")
    if fewest > 1:
        check_varied(array.min(), array.max(), what)
    return torch.from_numpy(array).flatten(1), array.shape[1:]


def check_shape(shape: tuple[int, ...], what: str, fewest: int) -> None:
    """
    Refuse an array that cannot hold examples.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    what : str
        Its name, for complaints.
    fewest : int
        Rows that it must have.

    Raises
    ------
    UsageError
        If it has fewer rows, or none with any features.
    """
    if len(shape) < 2:
        raise UsageError(f"{what} has shape {shape}; it must have one row per example, (N, M) or more")
    if shape[0] < fewest:
        raise UsageError(f"{what} holds {shape[0]} examples; at least {fewest} are needed")
    if 0 in shape[1:]:
        raise UsageError(f"{what} has shape {shape}: its examples have no features")


def check_varied(low: Any, top: Any, what: str) -> None:
    """
    Refuse examples that are all one value.

    Parameters
    ----------
    low, top : float
        Their smallest and largest value.
    what : str
        Their name, for complaints.

    Raises
    ------
    UsageError
        If the two are the same.
    """
    if low == top:
        raise UsageError(f"all values of {what} are {low}; there is nothing to learn")


def known_range(*parts: Any) -> float | None:
    """Return the stored value that means 1 (`Dataset.high`), for parts with a dtype, min() and max()."""
    top, low = max(float(part.max()) for part in parts), min(float(part.min()) for part in parts)
    if parts[0].dtype == torch.uint8:
        return 255.0 if top > 1 else 1.0  # bits are often saved as uint8; over 255 they would all but vanish
    return 1.0 if low >= 0 and top <= 1 else None


def channels_first(array: NDArray[Any], what: str) -> NDArray[Any]:
    """Return (N, M), or (N, C, ...) with the channels first, as a view."""
    match array.ndim:
        case 2:
            return array
        case 3:
            return array[:, None]
        case 4 if array.shape[1] in CHANNELS:
            return array
        case 4 if array.shape[3] in CHANNELS:
            return array.transpose(0, 3, 1, 2)
    forms = "(N, M), (N, H, W), (N, C, H, W) or (N, H, W, C) with C one of 1, 3, 4"
    raise UsageError(f"{what} has shape {array.shape}; it must be {forms}")


def check_finite(array: NDArray[Any], what: str) -> None:
    """Refuse NaN and infinite values; the complaint tells where the first one is."""
    bad = ~np.isfinite(array)
    if bad.any():
        first = ", ".join(str(i) for i in np.argwhere(bad)[0])
        count = "1 value that is" if bad.sum() == 1 else f"{bad.sum()} values that are"
        raise UsageError(f"{what} holds {count} NaN or infinite, the first at [{first}]; remove or fill them")


def class_values(array: NDArray[Any], what: str) -> NDArray[Any]:
    """Return labels (N,) as integers, booleans or strings, or refuse them."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise UsageError(f"{what} has shape {array.shape}; it must be (N,), one label per example")
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array):  # a column of pandas
        return array.astype(str)
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.round(array)).all():
        return array.astype(np.int64)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind not in "biuU":
        raise UsageError(f"{what} has type {array.dtype}; labels must be integers, strings or booleans")
    return array
