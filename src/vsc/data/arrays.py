"""The user's own arrays, from memory or a .npy, .npz or .csv file, checked once so that training need not."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsc.arrays import Array, of_objects, plain
from vsc.data.checks import class_values, examples, known_range
from vsc.data.npz import check_complete, described, extras, flattened, names, truth
from vsc.data.shards import MappedShard, Shard, open_folder, open_npy, open_raw
from vsc.data.split import Dataset, Source, Split, divide, hold_out
from vsc.data.stored import Stored
from vsc.data.table import read_csv
from vsc.errors import UsageError, choose

FEWEST = 10  # examples; with fewer, a split in three leaves nothing to learn from
TEST_FRACTION, TEST_SEED = 0.2, 0
IN_MEMORY = 2**30
"""Bytes up to which the arrays in .npy and raw files are read into memory; larger ones stay on disk."""


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
        In memory, a copy of the arrays. But where `x` is a `numpy.memmap`, the training examples stay on disk
        (`vsc.data.stored.Stored`), and a held-out part has at most 10 000 rows and 1 GiB; the rest trains.

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
        A .npy file of examples; a .npz file with `x` and, optionally, `y`, `factors` and `presence` (N, F), the
        same of a test and a validation part, `x_test`, `x_valid` and so on, and all else that `vsc.data.npz.write`
        writes; or a .csv file, in which a column named label, class, target or y holds the labels. Also a raw file of
        values, NAME.bin or NAME.raw, with a NAME.json that says their type and shape (`vsc.data.shards.RAW`); or a
        folder of .npy files, whose rows follow each other in the order of the files' names, with the labels of all
        rows in `y.npy` if they are known. What is larger than `IN_MEMORY` stays on disk, as a `numpy.memmap` does.
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
    x : torch.Tensor or Stored, shape (N, M), uint8 or float32
        The examples as stored.
    y : numpy.ndarray or None, shape (N,)
        The labels as they stand in the file.
    features : tuple of str
        Names of the columns; empty where the file has none.
    """

    x: Tensor | Stored
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
        x, _ = _checked(arrays.x, "x", fewest=1)
        y = None if arrays.y is None else plain(arrays.y, "y").values
        if y is not None and len(y) != len(x):
            raise UsageError(f"y holds {len(y)} labels for {len(x)} examples")
        return Rows(x, y, arrays.features)


class _Arrays(NamedTuple):
    """What a file holds, unchecked: the arguments of `_source`."""

    x: Array | Stored
    y: Array | None = None
    x_test: Array | None = None
    y_test: Array | None = None
    features: tuple[str, ...] = ()
    more: Mapping[str, Array] = MappingProxyType({})


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
        shards, y = open_folder(path)
        return _Arrays(_opened(shards), y)
    if not path.is_file():
        raise UsageError("no such file")
    read = choose(READERS, path.suffix.lower(), "kind of file")
    if path.stat().st_size == 0:
        raise UsageError("the file is empty")
    return read(path)


def _read_npy(path: Path) -> _Arrays:
    if path.stat().st_size > IN_MEMORY:
        return _Arrays(_opened([open_npy(path, "x")]))
    return _Arrays(_load_numpy(path, b"\x93NUMPY"))


def _read_npz(path: Path) -> _Arrays:
    arrays = flattened(_load_numpy(path, b"PK"))
    if "x" not in arrays:
        held = ", ".join(arrays) or "nothing"
        raise UsageError(f"holds no array named 'x' (it holds {held}); save it with np.savez(file, x=...)")
    parts = {key: arrays.get(key) for key in ("y", "x_test", "y_test")}
    return _Arrays(arrays["x"], **parts, features=names(arrays, "features"), more=arrays)


def _read_csv(path: Path) -> _Arrays:
    table = read_csv(path)
    return _Arrays(table.x, table.y, features=table.features)


def _read_raw(path: Path) -> _Arrays:
    return _Arrays(_opened([open_raw(path, "x")]))


READERS: dict[str, Callable[[Path], _Arrays]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".bin": _read_raw,
    ".raw": _read_raw,
}


def _opened(shards: list[Shard]) -> NDArray[Any] | Stored:
    """Leave on disk what is too large for memory."""
    stored = Stored(shards)
    if sum(math.prod(shard.shape) * shard.dtype.itemsize for shard in shards) > IN_MEMORY:
        return stored
    return np.concatenate([shard.read(0, shard.shape[0]) for shard in shards])


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
                raise of_objects("the file") from error
            problem = str(error).partition("\n")[0] or type(error).__name__
            raise UsageError(f"damaged ({problem}); save it again") from error


def _source(
    x: Array | Stored,
    y: Array | None = None,
    x_test: Array | None = None,
    y_test: Array | None = None,
    features: tuple[str, ...] = (),
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Source:
    """Check all arrays; `more` are the other arrays of a .npz file, named as in `vsc.data.npz`."""
    given = {**more, "x": x, "y": y, "x_test": x_test, "y_test": y_test}
    given = {name: array for name, array in given.items() if array is not None}
    ends = [end for end in ("", "_test", "_valid") if "x" + end in given]
    check_complete(given)
    values, shapes = zip(*(_checked(given[f"x{e}"], f"x{e}", 1 if e else FEWEST) for e in ends), strict=True)
    if features and len(features) != values[0].shape[1]:
        raise UsageError(f"{len(features)} feature names for {values[0].shape[1]} features")
    for end, other, shape in zip(ends, values, shapes, strict=True):
        if shape != shapes[0]:
            raise UsageError(f"examples of x{end} have shape {shape}, those of x {shapes[0]}")
        if other.dtype != values[0].dtype:
            raise UsageError(f"one of x and x{end} is uint8 and the other is not; save both as the same type")
    labels, classes = _labels({"y" + end: given.get("y" + end) for end in ends}, tuple(map(len, values)))
    parts = {
        end: Split(part, label, *truth(given, end, len(part)), extras=extras(given, end, len(part)))
        for end, part, label in zip(ends, values, labels, strict=True)
    }
    train, test, valid = parts[""], parts.get("_test"), parts.get("_valid")
    if test is None:
        train, test = divide(train, round(TEST_FRACTION * len(train)), TEST_SEED)
    return described(Source(train, test, shapes[0], classes, known_range(*values), features, valid), given)


def _checked(x: Array | Stored, what: str, fewest: int) -> tuple[Tensor, tuple[int, ...]]:
    """Return the checked examples, in memory or, where they are on disk, in place of a tensor, and one's shape."""
    if what == "x" and isinstance(x, np.memmap) and x.filename is not None:
        x = Stored([MappedShard(x, what)])
    if isinstance(x, Stored):
        x.survey(fewest)
        return cast(Tensor, x), x.example_shape
    return examples(x, what, fewest)


def _labels(given: dict[str, Array | None], lengths: tuple[int, ...]) -> tuple[list[Tensor | None], tuple[str, ...]]:
    """Return class indices for each array of labels, and the names of all classes in sorted order."""
    arrays = []
    for (what, labels), length in zip(given.items(), lengths, strict=True):
        if labels is None:
            return [None] * len(given), ()
        array = class_values(plain(labels, what).values, what)
        if len(array) != length:
            raise UsageError(f"{what} holds {len(array)} labels for {length} examples")
        arrays.append(array)
    classes, index = np.unique(np.concatenate(arrays), return_inverse=True)
    parts = np.split(index, np.cumsum(lengths)[:-1])
    return [torch.from_numpy(part.astype(np.int64)) for part in parts], tuple(str(c) for c in classes)
