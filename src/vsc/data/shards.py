"""Where examples that stay on disk lie: in files of rows, one or many, each opened without being read."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsc.errors import RunError


class Shard(ABC):
    """Some of the examples, in their order: n of them as they lie in the file, shape (n, ...)."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the examples from `start` to before `stop`, shape (stop - start, ...)."""


class FileShard(Shard):
    """
    Examples in a memory-mapped array, or a view of one, whose file must keep its size.

    Where they lie one after another they are fetched by plain reads: those take no memory that outlives them, and a
    file that is cut short meanwhile is an error, where touching a mapping would end the process.
    """

    def __init__(self, array: np.memmap, name: str):
        assert array.filename is not None
        self.path, self._array = Path(array.filename), np.asarray(array)
        self.name, self.dtype, self.shape = name, array.dtype, array.shape
        self._size = self.path.stat().st_size
        whole: Any = array
        while isinstance(whole.base, np.memmap):
            whole = whole.base
        start, first = (one.__array_interface__["data"][0] for one in (array, whole))
        self._offset = whole.offset + start - first if array.flags.c_contiguous else None

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return a copy of the examples from `start` to before `stop`; a changed size of the file is a RunError."""
        check_size(self.path, self._size)
        if self._offset is None:
            return self._array[start:stop].copy()
        values = int(np.prod(self.shape[1:], dtype=np.int64))
        offset = self._offset + start * values * self.dtype.itemsize
        try:
            found = np.fromfile(self.path, self.dtype, (stop - start) * values, offset=offset)
            return found.reshape(stop - start, *self.shape[1:])
        except (OSError, ValueError) as error:  # a ValueError where the file was cut short just now
            raise RunError(f"{self.path}: cannot be read ({error}); a run can go on with --resume") from error


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
