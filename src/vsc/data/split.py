"""What a data set is once it is loaded: arrays, split in three, and what their values mean."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from vsc.arrays import column_order
from vsc.data.stored import Stored
from vsc.errors import UsageError, listed, short
from vsc.fields import Field, mixed

HASHED = 2**30
"""Bytes of an array that `Dataset.content` looks at; of a larger one, blocks spread over all of it."""


@dataclass(frozen=True)
class Split:
    """
    One part of a data set.

    Attributes
    ----------
    x : torch.Tensor, shape (N, M), uint8, float32 or float64 (`vsc.arrays.as_stored`)
        The examples as stored, flattened; `Dataset.high` says which stored value means 1. In memory, or a view
        of a memory-mapped file, which is never written to. In the training part of data that are larger than memory,
        a `vsc.data.stored.Stored` stands in for the tensor.
    y : torch.Tensor or None, shape (N,), int64
        Class labels, as indices into `Dataset.classes`.
    factors : torch.Tensor or None, shape (N, F), float32
        The true factors of generated data, or what people noted about each example.
    presence : torch.Tensor or None, shape (N, F), bool
        Which of these factors had any effect on the example.
    extras : mapping of str to torch.Tensor, shape (N, ...)
        Whatever else is known of each example, under the name that the loader gives it.
    index : torch.Tensor or None, shape (N,), int64
        Each example's row, from 0, in the file or array that it comes from; not known of a stream.
    stream : callable or None
        Where training examples are streamed (`vsc.data.from_torch`): given a batch size, an iterator over batches
        as stored, (B, M), that never ends. `x` is then the first of the examples.
    """

    x: Tensor
    y: Tensor | None = None
    factors: Tensor | None = None
    presence: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    index: Tensor | None = None
    stream: Callable[[int], Iterator[Tensor]] | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        known = [name for name in ("y", "factors", "presence", *self.extras) if getattr(self, name, self) is not None]
        return f"<Split: x {tuple(self.x.shape)} {self.x.dtype}" + f", {', '.join(known)}" * bool(known) + ">"

    def take(self, index: Tensor | slice) -> "Split":
        """Return the examples at `index`, with everything known of them."""
        known = {name: getattr(self, name) for name in ("y", "factors", "presence", "index")}
        extras = {name: part[index] for name, part in self.extras.items()}
        return Split(self.x[index], extras=extras, **{n: None if v is None else v[index] for n, v in known.items()})


@dataclass(frozen=True)
class Dataset:
    """
    A data set.

    Attributes
    ----------
    name : str
        The registry's name, or the file's stem for a user's own array.
    shape : tuple of int
        One example's shape: (channels, height, width) for images, (channels, length) for signals, (M,) for
        tables. `prod(shape) == M`.
    train, valid, test : Split
        `valid` is the source's own validation part, or else a seeded part taken off its training set.
    classes : tuple of str
        Names of the labels; empty if there are none.
    high : float or None
        The stored value that means 1 when all values lie in [0, high] by construction (255 for uint8 images);
        None for tables of arbitrary range.
    features : tuple of str
        Names of a table's columns, in the order of `x`; empty if they are not known.
    fields : tuple of vsc.fields.Field
        What these columns are, those of the table itself: a column of text has several in `x`, and what is missing is
        NaN there. Empty where the data are no table.
    factor_names : tuple of str, length F
        Names of the columns of `Split.factors` and `Split.presence`; empty if they are not known.
    groups : tuple of str, length F
        The attribute that each of these columns belongs to: columns of one attribute are present together. Empty
        if they are not known.
    notes : tuple of str
        What a user should know of these data, a line each: that they are only a part, for example.
    first : int
        What users call the row of `Split.index` 0: its line in a file of text, else 0.
    directions : torch.Tensor or None, shape (F, M)
        What each of F true features adds to an example, as stored, where that is known; `extras["fires"]` (N, F), bool,
        then says in which examples it does.
    texts : tuple of str
        The texts that examples are pieces of (`vsc.data.texts`): `Split.extras["span"]` (N, 3) holds, for each example,
        the text's number and the places of the piece's first character and of the one behind its last.

    Raises
    ------
    UsageError
        If names, groups, factors and presence do not agree on F.
    """

    name: str
    shape: tuple[int, ...]
    train: Split
    valid: Split
    test: Split
    classes: tuple[str, ...] = ()
    high: float | None = None
    features: tuple[str, ...] = ()
    factor_names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    first: int = 0
    directions: Tensor | None = None
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        tables = (table for part in (self.train, self.valid, self.test) for table in (part.factors, part.presence))
        widths = sorted({table.shape[1] for table in tables if table is not None})
        if len(widths) > 1:
            raise UsageError(f"factors and presence must have as many columns in every part, not {widths}")
        F = widths[0] if widths else 0
        for what, names in (("factor_names", self.factor_names), ("groups", self.groups)):
            if names and len(names) != F:
                raise UsageError(f"{what} holds {len(names)} names for {F or 'no'} columns of factors or presence")

    def __repr__(self) -> str:
        parts = ", ".join(f"{len(getattr(self, part))} {part}" for part in ("train", "valid", "test"))
        classes = f"; {len(self.classes)} classes: {listed(self.classes, 3)}" if self.classes else ""
        return f"<Dataset {short(self.name)}: {parts}; examples of shape {self.shape}{classes}>"

    @cached_property
    def content(self) -> str:
        """
        What is in the data, as 16 hexadecimal digits: other values, labels, columns or parts give other digits.

        The first half of the SHA-256 of all examples, labels, factors and presence of the three parts, the shape,
        `high`, `features` and, where not all are gaussian, `fields`. Of examples on disk and of arrays above 1 GiB,
        only the shape, the type and some blocks count. Neither names nor notes do.
        """
        fields = [tuple(field) for field in self.fields] if mixed(self.fields) else []
        found = hashlib.sha256(repr((self.shape, self.high, self.features, *fields)).encode())
        for part in (self.train, self.valid, self.test):
            for known in (part.x, part.y, part.factors, part.presence):
                found.update(b"-" if known is None else repr((known.dtype, tuple(known.shape))).encode())
                for block in () if known is None else _blocks(known):
                    found.update(np.ascontiguousarray(block).data)
        return found.hexdigest()[:16]

    def aligned(self, columns: Sequence[str]) -> "Dataset":
        """
        Return the same data with all `columns` in this order by name; a UsageError if there are other columns.

        They are the data themselves if they are in this order, or if their columns have no names.
        """
        order = column_order(self.features, columns)
        if order is None:
            return self
        parts = {name: getattr(self, name) for name in ("train", "valid", "test")}
        moved = {name: replace(part, x=ordered(part.x, order)) for name, part in parts.items()}
        fields = tuple(sorted(self.fields, key=lambda field: columns.index(field.names[0])))
        return replace(self, features=tuple(columns), fields=fields, **moved)


def ordered(x: Tensor, order: list[int]) -> Tensor:
    """Return examples, in memory or on disk, with their values in another order."""
    return cast(Tensor, x.ordered(order)) if isinstance(x, Stored) else x[:, order]


def _blocks(known: Tensor) -> Iterator[Tensor]:
    """Yield what tells an array from another: all of it, or 64 blocks of rows of one that is large or on disk."""
    rows = len(known)
    size = rows and known[:1].nbytes * rows
    if not isinstance(known, Stored) and size <= HASHED:
        yield known
        return
    count = max(1, 2**20 * rows // size)
    for i in range(64):
        start = i * max(0, rows - count) // 63
        yield known[start : start + count]


class Source(NamedTuple):
    """
    A data set as its loader finds it: no validation part taken off yet, unless the source has one of its own.

    Which example is in which part never depends on the user's seed. Where training examples lie `in_order`, neighbours
    belong together, and the last of them are the validation part. The other fields are as in `Dataset`.
    """

    train: Split
    test: Split
    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    high: float | None = None
    features: tuple[str, ...] = ()
    valid: Split | None = None
    factor_names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    in_order: bool = False
    first: int = 0
    directions: Tensor | None = None
    texts: tuple[str, ...] = ()


def hold_out(source: Source, name: str, valid_fraction: float = 0.1, seed: int = 0) -> Dataset:
    """
    Make a data set called `name` of a `source`, with a validation part that shares no example with the others.

    That is the part that the source has, whatever the `valid_fraction` in [0, 1), or else this share of the training
    set, chosen with the `seed` in [0, 2^63), or its end where examples lie in order: at least one example, and at least
    one stays in `train`; both keep their order. 0 leaves `valid` empty.
    """
    if not 0 <= valid_fraction < 1:
        raise UsageError(f"valid_fraction must be at least 0 and below 1, got {valid_fraction}")
    source = source._replace(train=_numbered(source.train), test=_numbered(source.test))
    train, valid = source.train, source.train.take(slice(0, 0))
    if valid_fraction > 0 and source.valid is not None:
        valid = _numbered(source.valid)
    elif valid_fraction > 0:
        if len(train) < 2:
            raise UsageError("a training set of one example cannot be split; set valid_fraction=0")
        count = min(max(round(valid_fraction * len(train)), 1), len(train) - 1)
        if source.in_order:
            train, valid = train.take(slice(len(train) - count)), train.take(slice(len(train) - count, None))
        else:
            train, valid = divide(train, count, seed)
    known = source._replace(train=train, valid=valid)._asdict()
    del known["in_order"]
    return Dataset(name, **known)


def divide(split: Split, count: int, seed: int) -> tuple[Split, Split]:
    """
    Part a `split` at random in the rest and `count` examples, which the `seed` in [0, 2^63) chooses, each in its order.

    Of examples on disk, fewer are taken if `count` are too many to be held in memory (`Stored.draw`).
    """
    if not 0 <= seed < 2**63:
        raise UsageError(f"the seed must be at least 0 and below 2^63, got {seed}")
    split = _numbered(split)
    if isinstance(split.x, Stored):
        drawn, kept = split.x.draw(count, seed), torch.ones(len(split), dtype=torch.bool)
        kept[drawn] = False
        known = replace(split, x=torch.empty(len(split), 0)).take(kept)
        return replace(known, x=cast(Tensor, split.x.without(drawn))), split.take(drawn)
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return split.take(order[count:].sort().values), split.take(order[:count].sort().values)


def tested(split: Split) -> tuple[Split, Split]:
    """Take a fifth off as a test part: a random one, but always the same."""
    return divide(split, round(0.2 * len(split)), 0)


def _numbered(split: Split) -> Split:
    return split if split.index is not None else replace(split, index=torch.arange(len(split)))
