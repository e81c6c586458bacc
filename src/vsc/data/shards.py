"""Where examples that stay on disk lie: in files of rows, one or many, each opened without being read."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsc.arrays import of_objects
from vsc.data.checks import check_shape
from vsc.errors import RunError, UsageError


class Shard(ABC):
    """
    Some of the examples, in their order.

    Attributes
    ----------
    name : str
        What it is called in complaints.
    shape : tuple of int
        (n, ...): n examples, as they lie in the file.
    dtype : numpy.dtype
        Type of the values there.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the examples from `start` to before `stop`, shape (stop - start, ...)."""


class FileShard(Shard):
    """
    Examples in a file, row after row, fetched by plain reads: nothing is mapped into memory.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    offset : int
        Bytes before the first example.
    dtype : numpy.dtype
        Type of the values.
    shape : tuple of int
        (n, ...).
    name : str
        What it is called in complaints.
    """

    def __init__(self, path: Path, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], name: str):
        self.path, self.offset, self.dtype, self.shape, self.name = path, offset, dtype, shape, name
        self._values = int(np.prod(shape[1:], dtype=np.int64))
        self._size = path.stat().st_size

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the examples from `start` to before `stop`; a file that has changed its size is a RunError."""
        check_size(self.path, self._size)
        offset = self.offset + start * self._values * self.dtype.itemsize
        try:
            found = np.fromfile(self.path, self.dtype, (stop - start) * self._values, offset=offset)
            return found.reshape(stop - start, *self.shape[1:])
        except (OSError, ValueError) as error:  # a ValueError where the file was cut short just now
            raise RunError(f"{self.path}: cannot be read ({error}); a run can go on with --resume") from error


class MappedShard(Shard):
    """
    Examples in a memory-mapped array, of any layout.

    Parameters
    ----------
    array : numpy.memmap, shape (n, ...)
        The array; the file must keep its size.
    name : str
        What it is called in complaints.
    """

    def __init__(self, array: np.memmap, name: str):
        assert array.filename is not None
        self.path, self._array = Path(array.filename), np.asarray(array)
        self.name, self.dtype, self.shape = name, array.dtype, array.shape
        self._size = self.path.stat().st_size

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return a copy of the examples from `start` to before `stop`; a changed size of the file is a RunError."""
        check_size(self.path, self._size)  # reading beyond the end would kill the process
        return self._array[start:stop].copy()


def check_size(path: Path, size: int) -> None:
    """Refuse a file that does not have the size any more that it had when it was opened."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}; put it back, and a run can go on with --resume") from error
    if found != size:
        raise RunError(
            f"{path}: the file has {found} bytes where it had {size} when it was opened; put it back as it was, "
            "and a run can go on with --resume"
        )


def open_npy(path: Path, name: str) -> Shard:
    """
    Open a .npy file of examples.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    name : str
        What it is called in complaints.

    Returns
    -------
    Shard
        Its examples.

    Raises
    ------
    UsageError
        If the file is damaged or holds no examples.
    """
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise UsageError(f"{name} is not a .npy file inside; save it again with NumPy")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # the header parser raises many kinds on damage
        if "object" in str(error).lower():
            raise of_objects(name) from error
        raise UsageError(f"{name} is damaged ({str(error).partition(chr(10))[0]}); save it again") from error
    check_shape(array.shape, name, fewest=0)
    if array.flags.c_contiguous:
        return FileShard(path, array.offset, array.dtype, array.shape, name)
    return MappedShard(array, name)


RAW = '{"dtype": "uint8", "shape": [60000, 28, 28]}'
"""What a file beside a raw one says, for example."""


def open_raw(path: Path, name: str) -> Shard:
    """
    Open a file that holds nothing but values; a .json file beside it says their type and shape.

    Parameters
    ----------
    path : pathlib.Path
        The file; examples one after another, in C order.
    name : str
        What it is called in complaints.

    Returns
    -------
    Shard
        Its examples.

    Raises
    ------
    UsageError
        If the file beside it is missing, not as in `RAW`, or does not fit the size of the file.
    """
    about = path.with_suffix(".json")
    try:
        told = json.loads(about.read_text(encoding="utf-8"))
        dtype, shape = np.dtype(told["dtype"]), tuple(told["shape"])
        if not all(type(n) is int and n >= 0 for n in shape) or dtype.hasobject:
            raise ValueError
    except FileNotFoundError as error:
        raise UsageError(f"a raw file needs {about.name} beside it, such as {RAW}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{about.name} must be like {RAW}") from error
    check_shape(shape, name, fewest=0)
    size, promised = path.stat().st_size, int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size != promised:
        raise UsageError(f"the file has {size} bytes, but {about.name} promises {promised}: {dtype} of shape {shape}")
    return FileShard(path, 0, dtype, shape, name)


def open_folder(folder: Path) -> tuple[list[Shard], NDArray[Any] | None]:
    """
    Open a folder of .npy files.

    Parameters
    ----------
    folder : pathlib.Path
        The files' examples follow each other in the order of the files' names; `y.npy` may hold a label for each.

    Returns
    -------
    shards : list of Shard
    y : numpy.ndarray or None

    Raises
    ------
    UsageError
        If there are no such files, or one is damaged or holds no examples.
    """
    paths = sorted(path for path in folder.glob("*.npy") if path.name != "y.npy")
    if not paths:
        raise UsageError("a folder without .npy files; give a .npy, .npz or .csv file, or a folder of .npy files")
    shards = [open_npy(path, path.name) for path in paths]
    try:
        y = np.load(folder / "y.npy", allow_pickle=False)
    except FileNotFoundError:
        return shards, None
    except (ValueError, EOFError) as error:
        raise UsageError("y.npy is damaged or holds Python objects; save plain numbers or strings") from error
    return shards, y
