"""Examples that stay on disk: shards, one after another, of which only the rows that are asked for are read."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsc.arrays import Blur, numeric
from vsc.data.checks import channels_first, check_finite, check_shape, check_varied
from vsc.errors import RunError, UsageError
from vsc.model.scaling import Chunked

HELD_OUT = 10_000
"""Most rows of a held-out part, which is read into memory."""
HELD_OUT_BYTES = 2**30
"""Most bytes of a held-out part."""
PERMUTED = 2**20
"""Most rows that are drawn from by a permutation of them all, as data in memory are."""


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


class Stored(Chunked):
    """
    Examples (N, M) that stay on disk and are read when they are asked for, in the type of `vsc.arrays.as_stored`.

    It stands in for the tensor `Split.x`: it has a length, a shape and a dtype, rows are read into a tensor with
    `x[index]` or `x[start:stop]`, a few at a time with `split`. Shards must have examples of one shape and kind of
    number. Rows `excluded`, counted over all shards and ascending, do not belong to it; `order` says which of the M
    values of an example in the files comes first, second and so on.
    """

    def __init__(
        self, shards: Sequence[Shard], excluded: NDArray[np.int64] | None = None, order: Sequence[int] | None = None
    ):
        self.shards, self.order = tuple(shards), order
        for shard in self.shards:
            _check_alike(shard, self.shards[0])
        first = self.shards[0]
        lengths = [shard.shape[0] for shard in self.shards]
        self._starts = np.cumsum([0, *lengths])
        self._excluded = np.zeros(0, np.int64) if excluded is None else excluded
        self._before = self._excluded - np.arange(len(self._excluded))  # rows of ours before each excluded one
        check_shape((sum(lengths), *first.shape[1:]), first.name, fewest=1)
        self.example_shape = channels_first(np.empty((0, *first.shape[1:])), first.name).shape[1:]
        self.shape = (sum(lengths) - len(self._excluded), int(np.prod(self.example_shape)))
        self.dtype = torch.uint8 if first.dtype == np.uint8 else torch.float32
        """float64 once `survey` has found that float32 blurs a column."""

    def __getitem__(self, index: Any) -> Tensor:
        """Read the examples at a slice, a tensor of indices or of bits (n, M), or at one index (M,)."""
        N = len(self)
        rows = np.arange(*index.indices(N)) if isinstance(index, slice) else np.asarray(index)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        if rows.ndim == 0:
            return self[rows[None]][0]
        out = torch.empty(len(rows), self.shape[1], dtype=self.dtype)
        if not len(rows):
            return out
        if not -N <= rows.min() <= rows.max() < N:
            raise IndexError(f"there are {N} examples, from 0; index {rows.min()} to {rows.max()} were asked")
        order = np.argsort(rows % N, kind="stable")
        rows = (rows % N)[order]
        places = rows + np.searchsorted(self._before, rows, side="right")  # among the rows of all shards
        shard = np.searchsorted(self._starts, places, side="right") - 1
        part = places // max(1, self.PART // (4 * self.shape[1]))  # so that only the final form is whole in memory
        apart = (np.diff(rows) > 1) | (np.diff(shard) > 0) | (np.diff(part) > 0)
        for begin, end in pairwise([0, *(1 + np.flatnonzero(apart)), len(rows)]):
            i, to = shard[begin], torch.from_numpy(order[begin:end])
            out[to] = self._read(self.shards[i], places[begin:end] - self._starts[i])
        return out

    def _read(self, shard: Shard, rows: NDArray[np.int64]) -> Tensor:
        """Read neighbours, in ascending order, among which there may be rows that are not ours."""
        array = shard.read(int(rows[0]), int(rows[-1]) + 1)[rows - rows[0]]
        array = channels_first(array, "x").astype(str(self.dtype).removeprefix("torch."), order="C")
        found = torch.from_numpy(array).flatten(1)
        return found if self.order is None else found[:, list(self.order)]

    def split(self, rows: int) -> Iterator[Tensor]:
        """Yield all examples in their order, (rows, M) at a time."""
        return (self[start : start + rows] for start in range(0, len(self), rows))

    def reshape(self, *shape: int) -> Tensor:
        """Refuse: that would take all examples into memory."""
        raise UsageError("the training examples stay on disk; read those that fit into memory with x[start:stop]")

    def without(self, rows: Tensor) -> "Stored":
        """Return the same examples less those at `rows`, distinct and in ascending order."""
        places = rows.numpy() + np.searchsorted(self._before, rows.numpy(), side="right")
        return self._changed(np.union1d(self._excluded, places), self.order)

    def ordered(self, order: Sequence[int]) -> "Stored":
        """Return the same examples with their values in another order."""
        return self._changed(self._excluded, order if self.order is None else [self.order[i] for i in order])

    def _changed(self, excluded: NDArray[np.int64], order: Sequence[int] | None) -> "Stored":
        other = Stored(self.shards, excluded, order)
        other.dtype = self.dtype
        return other

    def draw(self, count: int, seed: int) -> Tensor:
        """
        Draw `count` rows to hold out, without replacement, in ascending order: as from memory if there are as many.

        Fewer are drawn if that is more than `HELD_OUT`, or than fit into `HELD_OUT_BYTES`.
        """
        N = len(self)
        count = min(count, HELD_OUT, max(1, HELD_OUT_BYTES // self.row_bytes))
        if N <= PERMUTED:
            return torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:count].sort().values
        return torch.from_numpy(np.sort(np.random.default_rng(seed).choice(N, count, replace=False)))

    def survey(self, fewest: int) -> None:
        """Read everything once: refuse what `from_arrays` refuses, and fewer rows than `fewest`; note the range."""
        what = self.shards[0].name if len(self.shards) == 1 else "x"
        check_shape((len(self), *self.example_shape), what, fewest)
        lows, tops, blurred = [], [], Blur()
        for shard in self.shards:
            rows = max(1, self.PART // max(1, int(np.prod(shard.shape[1:])) * shard.dtype.itemsize))
            for start in range(0, shard.shape[0], rows):
                array = shard.read(start, min(start + rows, shard.shape[0]))
                check_finite(array, shard.name, start=start)
                single = blurred.single(array)
                check_finite(single, f"{shard.name}, as float32,", start=start)
                lows.append(single.min())
                tops.append(single.max())
        if fewest > 1:
            check_varied(min(lows), max(tops), what)
        if blurred.found:
            self.dtype = torch.float64
        self._range = torch.tensor(min(lows)), torch.tensor(max(tops))


def _check_alike(shard: Shard, first: Shard) -> None:
    numeric(np.empty(0, shard.dtype), shard.name)
    if shard.shape[1:] != first.shape[1:]:
        raise UsageError(
            f"examples of {shard.name} have shape {shard.shape[1:]}, those of {first.name} {first.shape[1:]}; "
            "all shards must have the same"
        )
    if shard.dtype.kind != first.dtype.kind or (shard.dtype == np.uint8) != (first.dtype == np.uint8):
        raise UsageError(
            f"{shard.name} holds {shard.dtype} and {first.name} {first.dtype}; save all shards as the same type"
        )
