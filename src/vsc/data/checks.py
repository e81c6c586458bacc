"""What is asked of examples and labels before they are used, and the form that they then have."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsc.arrays import Array, as_stored, numeric, plain
from vsc.errors import UsageError, short

CHANNELS = (1, 3, 4)
FEWEST = 10  # examples; with fewer, a split in three leaves nothing to learn from
LONGEST = 1000
"""Most characters of a label or a column's name."""
RATIO, UNPACKED = 200, 2**28
"""How many times its size, and at least how many bytes, a file must unpack to in order to be refused."""


class Checked(NamedTuple):
    """Checked examples (N, M), in memory or `Stored`, the shape of one, and names of columns if they came along."""

    x: Tensor
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()


def examples(x: Array, what: str, fewest: int, missing: bool = False) -> Checked:
    """
    Check whatever `vsc.arrays.plain` takes as `fewest` or more examples, and copy it into the form of `Checked`.

    Refused is what `vsc.data.from_arrays` refuses; where more than one must be there, all being one value is too. NaN
    is taken where values may be `missing`.
    """
    array, names = numeric(x, what)
    check_shape(array.shape, what, fewest)
    check_finite(array, what, names, missing)
    array = as_stored(channels_first(array, what))
    check_finite(array, f"{what}, as float32,", missing=missing)
    if fewest > 1:
        check_varied(np.fmin.reduce(array, None), np.fmax.reduce(array, None), what)
    return Checked(torch.from_numpy(array).flatten(1), array.shape[1:], names)


def check_shape(shape: tuple[int, ...], what: str, fewest: int) -> None:
    """Refuse an array that has no row per example, fewer rows than `fewest`, or rows without features."""
    if len(shape) < 2:
        raise UsageError(f"{what} has shape {shape}; it must have one row per example, (N, M) or more")
    if shape[0] < fewest:
        raise UsageError(f"{what} holds {shape[0]} examples; at least {fewest} are needed")
    if 0 in shape[1:]:
        raise UsageError(f"{what} has shape {shape}: its examples have no features")


def check_varied(low: Any, top: Any, what: str) -> None:
    """Refuse examples whose smallest and largest value are the same."""
    if low == top:
        raise UsageError(f"all values of {what} are {low}; there is nothing to learn")


def check_unpacked(size: int, packed: int) -> None:
    """Refuse a file of `packed` bytes that unpacks to implausibly many, `size`, before they take memory."""
    if size > max(UNPACKED, RATIO * packed):
        raise UsageError(f"unpacks to {size} bytes or more, over {RATIO} times its size; save it again, not compressed")


def known_range(*parts: Any) -> float | None:
    """Return the stored value that means 1 (`Dataset.high`), for parts with a dtype, min() and max()."""
    top, low = max(float(part.max()) for part in parts), min(float(part.min()) for part in parts)
    if parts[0].dtype == torch.uint8:
        return 255.0 if top > 1 else 1.0  # bits are often saved as uint8; over 255 they would all but vanish
    return 1.0 if low >= 0 and top <= 1 else None


def channels_first(array: NDArray[Any], what: str) -> NDArray[Any]:
    """Return (N, M), or (N, C, ...) with the channels first, as a view; where both places fit, square images win."""
    match array.ndim:
        case 2:
            return array
        case 3:
            return array[:, None]
        case 4:
            first, height, width, last = array.shape[1] in CHANNELS, *array.shape[1:3], array.shape[3] in CHANNELS
            if first and not (last and height == width != array.shape[3]):
                return array
            if last:
                return array.transpose(0, 3, 1, 2)
    forms = "(N, M), (N, H, W), (N, C, H, W) or (N, H, W, C) with C one of 1, 3, 4"
    raise UsageError(f"{what} has shape {array.shape}; it must be {forms}")


def check_finite(
    array: NDArray[Any], what: str, names: Sequence[str] = (), missing: bool = False, start: int | None = None
) -> None:
    """
    Refuse infinite values, and NaN unless values may be `missing`; the complaint says where the first one is.

    An array may be a part of what is called `what`, from row `start`; how many there are in all is not known then.
    """
    bad = np.isinf(array) if missing else ~np.isfinite(array)
    if bad.any():
        row, *rest = np.argwhere(bad)[0].tolist()
        first = f"[{', '.join(map(str, (row + (start or 0), *rest)))}]"
        first += f", column {short(names[rest[0]])}" if names else ""
        count = "1 value that is " if bad.sum() == 1 else f"{bad.sum()} values that are "
        count = f"{count}NaN or infinite" if start is None else "NaN or infinite values"
        lost = (
            ""
            if missing or np.isinf(array).any() or array.ndim != 2
            else "; if they are missing, give a data frame or a .csv"
        )
        raise UsageError(f"{what} holds {count}, the first at {first}; remove or fill them{lost}")


def class_values(y: Array, what: str) -> NDArray[Any]:
    """Return labels (N,) as integers, booleans or strings, or refuse them."""
    array = plain(y, what).values
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise UsageError(f"{what} has shape {array.shape}; it must be (N,), one label per example")
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array):  # a column of pandas
        check_length(max(map(len, array), default=0), what)
        return array.astype(str)
    if array.dtype.kind == "O" and not any(isinstance(label, str) for label in array):
        array = numeric(array, what).values
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.round(array)).all():
        return array.astype(np.int64)
    if array.dtype.kind in "US":
        check_length(array.dtype.itemsize // (4 if array.dtype.kind == "U" else 1), what)
        return np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array
    if array.dtype.kind not in "biu":
        kind = f"type {array.dtype}" if array.dtype.kind != "f" else "numbers that are not whole, or missing"
        raise UsageError(f"{what} has {kind}; labels must be integers, strings or booleans")
    return array


def check_length(length: int, what: str) -> None:
    """Refuse text that is too long for a label or a name."""
    if length > LONGEST:
        raise UsageError(f"{what}: one is {length} characters long; at most {LONGEST} are taken")


def labelled(
    given: Mapping[str, tuple[Array | None, int]], classes: Sequence[str] = ()
) -> tuple[dict[str, Tensor | None], tuple[str, ...]]:
    """
    Turn labels into indices (N,) of classes, int64, and name the classes.

    `given` has, for each part, under the name that its labels have in complaints, the labels (or None) and the number
    of examples. Where `classes` are given, labels are indices of these; else the labels themselves are, in sorted
    order.
    """
    known = {what: class_values(y, what) for what, (y, _) in given.items() if y is not None}
    for what, y in known.items():
        if len(y) != given[what][1]:
            raise UsageError(f"{what} holds {len(y)} labels for {given[what][1]} examples")
    if not known:
        return dict.fromkeys(given), tuple(classes)
    values = np.unique(np.concatenate(list(known.values())))
    if classes:
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= len(classes):
            raise UsageError(f"labels must be indices of the {len(classes)} classes, not {values[0]} to {values[-1]}")
        values = np.arange(len(classes))
    found = {what: torch.from_numpy(np.searchsorted(values, y).astype(np.int64)) for what, y in known.items()}
    return dict.fromkeys(given) | found, tuple(classes) or tuple(str(value) for value in values)
