"""The user's own arrays, from memory or a .npy, .npz or .csv file, checked once so that training need not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vsc.data.split import Dataset, Source, Split, divide, hold_out
from vsc.data.table import read_csv
from vsc.errors import UsageError, choose

FEWEST = 10  # examples; with fewer, a split in three leaves nothing to learn from
TEST_FRACTION, TEST_SEED = 0.2, 0
CHANNELS = (1, 3, 4)

Array = ArrayLike | Tensor


def from_arrays(
    x: Array,
    y: Array | None = None,
    name: str = "array",
    valid_fraction: float = 0.1,
    seed: int = 0,
    *,
    x_test: Array | None = None,
    y_test: Array | None = None,
    features: tuple[str, ...] = (),
) -> Dataset:
    """
    Make a data set of your own arrays.

    Parameters
    ----------
    x : array-like or torch.Tensor, shape (N, M), (N, H, W), (N, C, H, W) or (N, H, W, C)
        Examples, at least 10. C is 1, 3 or 4; channels are moved first, and where both places fit they are
        taken to be first already. uint8 is kept and 255 means 1, or 1 means 1 if there is nothing above 1.
        Other numbers become float32; if all lie in [0, 1], `Dataset.high` is 1, else None.
    y : array-like or torch.Tensor, shape (N,), optional
        Class labels: integers, strings or booleans.
    name : str
        Name of the data set.
    valid_fraction : float
        Share of the training set that is held out for validation, in [0, 1).
    seed : int
        Seed of the validation part.
    x_test, y_test : array-like or torch.Tensor, optional
        Test examples and their labels. Without them a fifth of `x` is the test set: a random one, always the
        same, whatever `seed`.
    features : tuple of str
        Names of the columns of `x`, for tables.

    Returns
    -------
    Dataset
        In memory, a copy of the arrays.

    Raises
    ------
    UsageError
        If there are fewer than 10 examples, no features or only one value in all of `x`; if `x` holds NaN,
        infinite, complex or non-numeric values or has an unsuitable shape; if labels are not one per example
        or not classes; or if the test arrays do not fit the others.
    """
    return hold_out(_source(x, y, x_test, y_test, features), name, valid_fraction, seed)


def from_file(path: Path, valid_fraction: float = 0.1, seed: int = 0) -> Dataset:
    """
    Make a data set of a file.

    Parameters
    ----------
    path : pathlib.Path
        A .npy file of examples; a .npz file with `x` and, optionally, `y`, `x_test`, `y_test`; or a .csv
        file, in which a column named label, class, target or y holds the labels. A .npz file without `x_test`
        may also hold `factors` and `presence`, shape (N, F), as `vsc.data.smiley.export` writes them.
    valid_fraction, seed
        As for `from_arrays`.

    Returns
    -------
    Dataset
        Named after the file.

    Raises
    ------
    UsageError
        If the file is missing, empty, damaged, of another kind, or holds what `from_arrays` rejects.
    """
    with _about(path):
        return hold_out(_source(*_read(path)), path.stem, valid_fraction, seed)


class Rows(NamedTuple):
    """
    The examples of a file in their order.

    Attributes
    ----------
    x : torch.Tensor, shape (N, M), uint8 or float32
        The examples as stored.
    y : numpy.ndarray or None, shape (N,)
        The labels as they stand in the file.
    features : tuple of str
        Names of the columns; empty where the file has none.
    """

    x: Tensor
    y: NDArray[Any] | None
    features: tuple[str, ...]


def read_rows(path: Path) -> Rows:
    """
    Read all examples of a file in their order, without splitting them.

    Parameters
    ----------
    path : pathlib.Path
        As for `from_file`; `x_test` is left out.

    Returns
    -------
    Rows
        Examples, labels and names of columns.

    Raises
    ------
    UsageError
        If the file is missing, empty, damaged, of another kind, or holds unsuitable values.
    """
    with _about(path):
        arrays = _read(path)
        x, _ = _examples(arrays.x, "x", fewest=1)
        y = None if arrays.y is None else _to_numpy(arrays.y, "y")
        if y is not None and len(y) != len(x):
            raise UsageError(f"y holds {len(y)} labels for {len(x)} examples")
        return Rows(x, y, arrays.features)


class _Arrays(NamedTuple):
    """What a file holds, unchecked: the arguments of `_source`."""

    x: Array
    y: Array | None = None
    x_test: Array | None = None
    y_test: Array | None = None
    features: tuple[str, ...] = ()
    factors: Array | None = None
    presence: Array | None = None


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Name the file in every complaint."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read(path: Path) -> _Arrays:
    if path.is_dir():
        raise UsageError("a folder, not a file; give a .npy, .npz or .csv file")
    if not path.is_file():
        raise UsageError("no such file")
    read = choose(READERS, path.suffix.lower(), "kind of file")
    if path.stat().st_size == 0:
        raise UsageError("the file is empty")
    return read(path)


def _read_npy(path: Path) -> _Arrays:
    return _Arrays(_load_numpy(path, b"\x93NUMPY"))


def _read_npz(path: Path) -> _Arrays:
    arrays = _load_numpy(path, b"PK")
    if "x" not in arrays:
        held = ", ".join(arrays) or "nothing"
        raise UsageError(f"holds no array named 'x' (it holds {held}); save it with np.savez(file, x=...)")
    known = (arrays.get(key) for key in ("factors", "presence"))
    return _Arrays(arrays["x"], arrays.get("y"), arrays.get("x_test"), arrays.get("y_test"), (), *known)


def _read_csv(path: Path) -> _Arrays:
    table = read_csv(path)
    return _Arrays(table.x, table.y, features=table.features)


READERS: dict[str, Callable[[Path], _Arrays]] = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}


def _load_numpy(path: Path, magic: bytes) -> Any:
    """Return the array of a .npy file or the dict of arrays of a .npz file; never unpickle."""
    with path.open("rb") as file:
        # Without this check np.load takes any other content for a pickle, and says so in its message.
        if file.read(len(magic)) != magic:
            raise UsageError(f"not a {path.suffix} file inside; save it again with NumPy")
        file.seek(0)
        try:
            loaded = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
        except Exception as error:  # the header parser, zip reader and decompressor raise a dozen kinds on damage
            if "Object arrays" in str(error):
                raise _of_objects("the file") from error
            problem = str(error).partition("\n")[0] or type(error).__name__
            raise UsageError(f"damaged ({problem}); save it again") from error


def _source(
    x: Array,
    y: Array | None = None,
    x_test: Array | None = None,
    y_test: Array | None = None,
    features: tuple[str, ...] = (),
    factors: Array | None = None,
    presence: Array | None = None,
) -> Source:
    values, shape = _examples(x, "x", fewest=FEWEST)
    if features and len(features) != values.shape[1]:
        raise UsageError(f"{len(features)} feature names for {values.shape[1]} features")
    if y is None and y_test is not None:
        raise UsageError("y_test is given without y")
    if x_test is None:
        if y_test is not None:
            raise UsageError("y_test is given without x_test")
        labels, classes = _labels({"y": y}, (len(values),))
        whole = Split(values, labels[0], *_truth(factors, presence, len(values)))
        train, test = divide(whole, round(TEST_FRACTION * len(whole)), TEST_SEED)
        return Source(train, test, shape, classes, _high(values), features)
    test_values, test_shape = _examples(x_test, "x_test", fewest=1)
    if test_shape != shape:
        raise UsageError(f"examples of x_test have shape {test_shape}, those of x {shape}")
    if test_values.dtype != values.dtype:
        raise UsageError("one of x and x_test is uint8 and the other is not; save both as the same type")
    if y is not None and y_test is None:
        raise UsageError("y and x_test are given without y_test")
    labels, classes = _labels({"y": y, "y_test": y_test}, (len(values), len(test_values)))
    high = _high(values, test_values)
    return Source(Split(values, labels[0]), Split(test_values, labels[1]), shape, classes, high, features)


def _examples(x: Array, what: str, fewest: int) -> tuple[Tensor, tuple[int, ...]]:
    """Return the checked examples, (N, M) uint8 or float32, and the shape of one."""
    array = _numeric(_to_numpy(x, what), what)
    if array.ndim < 2:
        raise UsageError(f"{what} has shape {array.shape}; it must have one row per example, (N, M) or more")
    if len(array) < fewest:
        raise UsageError(f"{what} holds {len(array)} examples; at least {fewest} are needed")
    if array[0].size == 0:
        raise UsageError(f"{what} has shape {array.shape}: its examples have no features")
    _check_finite(array, what)
    array = _channels_first(array, what)
    with np.errstate(over="ignore"):  # reported in the next line
        array = array.astype(np.uint8 if array.dtype == np.uint8 else np.float32, order="C")  # always a copy
    _check_finite(array, f"{what}, as float32,")
    if fewest > 1 and array.min() == array.max():
        raise UsageError(f"all values of {what} are {array.min()}; there is nothing to learn")
    return torch.from_numpy(array).flatten(1), array.shape[1:]


def _to_numpy(x: Array, what: str) -> NDArray[Any]:
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    try:
        return np.asarray(x)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{what} cannot be made an array; all its rows must have the same length") from error


def _numeric(array: NDArray[Any], what: str) -> NDArray[Any]:
    match array.dtype.kind:
        case "b" | "i" | "u" | "f":
            return array
        case "c":
            raise UsageError(f"{what} is complex; give its real and imaginary parts as separate features")
        case "O":
            raise _of_objects(what)
        case _:
            raise UsageError(f"{what} has type {array.dtype}, which is not numeric; encode it as numbers")


def _of_objects(what: str) -> UsageError:
    return UsageError(f"{what} holds Python objects, which are never unpickled; save a plain numeric array")


def _channels_first(array: NDArray[Any], what: str) -> NDArray[Any]:
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


def _check_finite(array: NDArray[Any], what: str) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        first = ", ".join(str(i) for i in np.argwhere(bad)[0])
        count = "1 value that is" if bad.sum() == 1 else f"{bad.sum()} values that are"
        raise UsageError(f"{what} holds {count} NaN or infinite, the first at [{first}]; remove or fill them")


def _high(*parts: Tensor) -> float | None:
    top, low = max(float(part.max()) for part in parts), min(float(part.min()) for part in parts)
    if parts[0].dtype == torch.uint8:
        return 255.0 if top > 1 else 1.0  # bits are often saved as uint8; over 255 they would all but vanish
    return 1.0 if low >= 0 and top <= 1 else None


def _labels(given: dict[str, Array | None], lengths: tuple[int, ...]) -> tuple[list[Tensor | None], tuple[str, ...]]:
    """Return class indices for each array of labels, and the names of all classes in sorted order."""
    arrays = []
    for (what, labels), length in zip(given.items(), lengths, strict=True):
        if labels is None:
            return [None] * len(given), ()
        array = _class_values(_to_numpy(labels, what), what)
        if len(array) != length:
            raise UsageError(f"{what} holds {len(array)} labels for {length} examples")
        arrays.append(array)
    classes, index = np.unique(np.concatenate(arrays), return_inverse=True)
    parts = np.split(index, np.cumsum(lengths)[:-1])
    return [torch.from_numpy(part.astype(np.int64)) for part in parts], tuple(str(c) for c in classes)


def _class_values(array: NDArray[Any], what: str) -> NDArray[Any]:
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


def _truth(factors: Array | None, presence: Array | None, n: int) -> tuple[Tensor | None, Tensor | None]:
    """Return what is known of how the examples were generated, if the file says it."""
    arrays: list[Tensor | None] = []
    for what, given, dtype in (("factors", factors, np.float32), ("presence", presence, np.bool_)):
        if given is None:
            arrays.append(None)
            continue
        array = _numeric(_to_numpy(given, what), what)
        if array.ndim != 2 or len(array) != n:
            raise UsageError(f"{what} has shape {array.shape}; it must be ({n}, F), one row per example")
        _check_finite(array, what)
        arrays.append(torch.from_numpy(array.astype(dtype)))
    return arrays[0], arrays[1]
