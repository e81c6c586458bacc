"""Torch's own data sets and loaders as data sets of ours."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from vsc.arrays import as_stored, numeric, plain
from vsc.data.arrays import alike
from vsc.data.checks import FEWEST, Checked, channels_first, examples, known_range, labelled
from vsc.data.split import Dataset, Source, Split, hold_out, tested
from vsc.data.stored import Shard, Stored
from vsc.errors import RunError, UsageError

FIRST = 10_000
"""Examples of a stream that are looked at before training; the first batches that together hold more than that."""
FIRST_BYTES = 2**28
"""Bytes of them from which on no more are looked at."""


def from_torch(
    train: Any,
    valid: Any = None,
    test: Any = None,
    *,
    name: str = "dataset",
    classes: Sequence[str] = (),
    valid_fraction: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """
    Make a data set of a torch Dataset or DataLoader.

    Parameters
    ----------
    train : torch.utils.data.Dataset, torch.utils.data.DataLoader or iterable of batches
        A Dataset with a length: item i is x, or (x, y) with a class label. It is read through once, in this process,
        and its examples are then fetched again whenever they are needed; so if they take long to make, give a
        DataLoader with workers.

        A DataLoader, or any iterable of batches x or (x, y), which can be gone through again and again: it is
        streamed. Training takes the batches as they come, in the loader's order and of its sizes, whatever
        `config.train.batch_size`; at the end it starts again. An IterableDataset is streamed in batches of that size.
        A run that is resumed goes on with its model and optimiser, and with whatever the loader gives then. Each of
        several processes takes whole batches of a loader of its own; give it a DistributedSampler. `x` of the
        training part is then the first 10 000 examples or so (256 MiB at most): the scaling, `Dataset.high` and the
        classes come from them.
    valid, test : optional
        The same, or arrays x or (x, y), tuples of two; read into memory. Without them, parts of a Dataset with a
        length are held out, as from arrays that stay on disk (`vsc.data.from_arrays`); beside a stream they are empty.
    name : str
        Name of the data set.
    classes : sequence of str
        Names of the classes, if the labels are their indices. By default the labels themselves, in sorted order.
    valid_fraction : float
        Share of the training set that is held out for validation, in [0, 1).
    seed : int
        Seed of the validation part.

    Returns
    -------
    Dataset
        Examples of shape (M,), (H, W), (C, H, W) or (H, W, C), channels moved first, in the types that
        `vsc.data.from_arrays` keeps.

    Raises
    ------
    UsageError
        If the examples or labels are unsuitable, as for `vsc.data.from_arrays`.
    RunError
        Later, if a batch of a stream has another shape or type than the first, or a value that is not finite.
    """
    given = {"train": _opened(train), "valid": _whole(valid, "valid"), "test": _whole(test, "test")}
    parts = {what: part for what, part in given.items() if part is not None}
    xs, shape = alike({what: checked for what, (checked, _) in parts.items()}), parts["train"][0].shape
    labels, names = labelled({f"the labels of {what}": (y, len(xs[what])) for what, (_, y) in parts.items()}, classes)
    splits = {what: Split(x, labels[f"the labels of {what}"]) for what, x in xs.items()}
    high = known_range(*xs.values())
    if _is_stream(train):
        empty = splits["train"].take(slice(0, 0))
        begin = replace(splits["train"], stream=_Stream(train, shape, xs["train"].dtype))
        return Dataset(name, shape, begin, splits.get("valid", empty), splits.get("test", empty), names, high)
    whole, taken = (splits["train"], splits["test"]) if "test" in splits else tested(splits["train"])
    source = Source(whole, taken, shape, names, high, valid=splits.get("valid"))
    return hold_out(source, name, valid_fraction, seed)


_Part = tuple[Checked, NDArray[Any] | None]
"""Examples and what they are labelled with."""


class _Items(Shard):
    """The items of a Dataset with a length; `labels` are those of the items that were read, None if they have none."""

    def __init__(self, items: Any, what: str):
        self.name, self._items = what, items
        try:
            length = len(items)
        except TypeError as error:
            raise UsageError(f"{what} has no length; give a DataLoader") from error
        if not length:
            raise UsageError(f"{what} holds 0 examples; at least 1 are needed")
        self.labels: list[Any] = [None] * length
        x, _ = _two(items[0])
        one = numeric(x, what).values
        self.dtype, self.shape = one.dtype, (length, *one.shape)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the examples from `start` to before `stop`, (stop - start, ...)."""
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for i in range(start, stop):
            x, self.labels[i] = _two(self._items[i])
            one = plain(x, f"{self.name}[{i}]").values
            if one.shape != self.shape[1:] or one.dtype != self.dtype:
                raise UsageError(
                    f"{self.name}[{i}] is {one.dtype} of shape {one.shape}, but {self.name}[0] {self.dtype} of shape "
                    f"{self.shape[1:]}; make them alike"
                )
            out[i - start] = one
        return out


class _Stream:
    """Batches of a loader for ever, checked: called with a size that is heeded by an IterableDataset alone."""

    def __init__(self, loader: Iterable[Any], shape: tuple[int, ...], dtype: torch.dtype):
        self._loader, self._shape, self._dtype = loader, shape, dtype

    def __call__(self, batch_size: int) -> Iterator[Tensor]:
        loader = _batched(self._loader, batch_size)
        while True:
            number = -1
            for number, batch in enumerate(loader):
                yield self._checked(batch, number)
            if number < 0:
                raise RunError("train gives no more batches; it must be possible to go through it again and again")

    def _checked(self, batch: Any, number: int) -> Tensor:
        try:
            x, shape, _ = examples(_two(batch)[0], f"batch {number} of train", fewest=1)
        except UsageError as error:
            raise RunError(str(error)) from error
        if shape != self._shape or (x.dtype == torch.uint8) != (self._dtype == torch.uint8):
            raise RunError(
                f"batch {number} of train holds {x.dtype} examples of shape {shape}, but the first batch held "
                f"{self._dtype} of shape {self._shape}; make them alike"
            )
        return x.to(self._dtype)


def _opened(train: Any) -> _Part:
    if _is_stream(train):
        x, y = _gathered(_batched(train, 256), "train", FIRST)
        return examples(x, "train", FEWEST), y
    items = _Items(train, "train")
    stored = Stored([items])
    stored.survey(FEWEST)
    return Checked(cast(Tensor, stored), stored.example_shape), _together(items.labels, "train")


def _whole(given: Any, what: str) -> _Part | None:
    """Return a held-out part, in memory."""
    if given is None:
        return None
    if isinstance(given, Tensor | np.ndarray):
        x, y = given, None
    elif isinstance(given, tuple):
        x, y = given[0], plain(given[1], f"the labels of {what}").values
    elif _is_stream(given):
        x, y = _gathered(_batched(given, 256), what, None)
    else:
        items = _Items(given, what)
        x = items.read(0, len(given))
        y = _together(items.labels, what)
    return examples(x, what, fewest=1), y


def _is_stream(given: Any) -> bool:
    if not hasattr(given, "__getitem__") and not hasattr(given, "__iter__"):
        raise UsageError(f"expected a torch Dataset or DataLoader, not {type(given).__name__}")
    return isinstance(given, IterableDataset | DataLoader) or not hasattr(given, "__getitem__")


def _batched(loader: Any, batch_size: int) -> Iterable[Any]:
    return DataLoader(loader, batch_size) if isinstance(loader, IterableDataset) else loader


def _gathered(loader: Iterable[Any], what: str, most: int | None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the examples and labels of a stream: all, or the first batches that hold more than `most`."""
    xs, ys, size = [], [], 0
    for batch in loader:
        x, y = _two(batch)
        xs.append(numeric(x, what).values)
        ys.append(y)
        size += as_stored(channels_first(xs[-1], what)).nbytes
        if most is not None and (sum(map(len, xs)) > most or size > FIRST_BYTES):
            break
    if not xs:
        raise UsageError(f"{what} gives no batches")
    if len({(x.shape[1:], x.dtype) for x in xs}) > 1:
        raise UsageError(f"the batches of {what} differ in the shape or type of their examples; make them alike")
    labels = [None if y is None else plain(y, f"the labels of {what}").values for y in ys]
    known = [y for y in labels if y is not None]
    return np.concatenate(xs), np.concatenate(known) if len(known) == len(xs) else None


def _two(item: Any) -> tuple[Any, Any]:
    """Return x and y of an item or batch that is x, (x,), or (x, y, ...)."""
    if isinstance(item, Mapping):
        raise UsageError(f"examples must come as x or (x, y), not as a {type(item).__name__}; see collate_fn")
    if isinstance(item, tuple | list):
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _together(labels: list[Any], what: str) -> NDArray[Any] | None:
    if any(label is None for label in labels):
        return None
    return plain([label.item() if isinstance(label, Tensor) else label for label in labels], what).values
