"""Batches, from memory or from disk: which examples, in which order, is a pure function of the seed and step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vsc.data.split import Split
from vsc.data.stored import Stored
from vsc.model.scaling import Scaler

GROUP = 2**26
"""Bytes of stored examples that are read into memory together."""
BLOCK = 256
"""Most neighbouring examples that stay together when examples on disk are shuffled."""
BLOCKS = 16
"""Fewest such blocks that are in memory together; where examples are large, blocks are smaller."""


def batches_of(
    split: Split,
    scaler: Scaler,
    batch_size: int,
    seed: int,
    binarise: bool = False,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
) -> Callable[[int], Tensor]:
    """
    Return what gives the model inputs (B, M), float32, of a step: the batches that suit where the examples are.

    A stream has an order of its own, and the batches of its own size are not shared among processes.
    """
    common = (scaler, batch_size, seed, binarise, rank, world)
    if split.stream is not None:
        return StreamedBatches(split.stream(batch_size), scaler, binarise, device)
    if isinstance(split.x, Stored) and len(split.x) > at_once(split.x):
        return StoredBatches(split.x, *common, device=device)
    return Batches((split.x[:] if isinstance(split.x, Stored) else split.x).to(device), *common)


def at_once(x: Stored) -> int:
    """Return how many examples are read into memory together."""
    return max(1, GROUP // (x.row_bytes + 32))  # an example's place in the order takes memory too


@dataclass(eq=False)
class Batches:
    """
    Shuffled training batches of examples x (N, M), forever; every epoch sees all but an incomplete last batch.

    `batch_size` (at most N is used) is over all processes: process `rank` of `world` takes its share of every batch.
    `binarise` draws every value in [0, 1] anew as a bit. A call with a step returns (batch_size / world, M), float32.
    """

    x: Any
    scaler: Scaler
    batch_size: int
    seed: int
    binarise: bool = False
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        self.batch_size = min(self.batch_size, len(self.x)) // self.world * self.world
        self.per_epoch = len(self.x) // self.batch_size
        self._epoch, self._order = -1, torch.empty(0)

    def __call__(self, step: int) -> Tensor:
        epoch, number = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._order = _permutation(len(self.x), 0, self.seed, epoch).to(self.x.device)
            self._epoch = epoch
        batch = self._order[number * self.batch_size : (number + 1) * self.batch_size]
        mine = batch[self.rank :: self.world]
        return _inputs(self.x.index_select(0, mine), self)  # a third of the time of self.x[mine]


@dataclass(eq=False)
class StoredBatches(Batches):
    """
    Batches of examples on disk (`Stored`).

    In each epoch, blocks of neighbouring examples are put in a random order, and as many as may be in memory at once
    (`together`; by default what `GROUP` bytes hold) are shuffled together. Which examples are in a batch depends on the
    seed and the step alone.
    """

    device: torch.device | str = "cpu"
    together: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        together = self.together or at_once(self.x)
        self._block = max(1, min(BLOCK, together // BLOCKS))
        self._blocks = max(1, together // self._block)  # in a group
        self._groups, self._starts = [], np.zeros(1, np.int64)
        self._held, self._rows = -1, torch.empty(0)

    def __call__(self, step: int) -> Tensor:
        epoch, number = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._plan(epoch)
        place, stop, parts = number * self.batch_size, (number + 1) * self.batch_size, []
        while place < stop:  # a batch may lie in several groups
            group = int(np.searchsorted(self._starts, place, side="right")) - 1
            start, end = int(self._starts[group]), min(int(self._starts[group + 1]), stop)
            if group != self._held:
                self._read(group)
            parts.append(self._rows.index_select(0, self._order[place - start : end - start]))
            place = end
        return _inputs(torch.cat(parts)[self.rank :: self.world], self)

    def _plan(self, epoch: int) -> None:
        """Decide which blocks are in which group of an epoch, and where in the epoch each group starts."""
        starts = torch.arange(0, len(self.x), self._block)
        sizes = (len(self.x) - starts).clamp(max=self._block)
        self._groups = _permutation(len(starts), 0, self.seed, epoch).split(self._blocks)
        self._starts = np.cumsum([0, *(int(sizes[group].sum()) for group in self._groups)])
        self._epoch, self._held = epoch, -1

    def _read(self, group: int) -> None:
        self._held, self._rows = -1, torch.empty(0)  # so that no two groups are in memory at once
        blocks = self._groups[group].sort().values[:, None] * self._block
        index = (blocks + torch.arange(self._block)).flatten()
        self._rows = self.x[index[index < len(self.x)]].to(self.device)
        self._order = _permutation(len(self._rows), 2, self.seed, self._epoch, group).to(self.device)
        self._held = group


@dataclass(eq=False)
class StreamedBatches:
    """Training batches as a stream that never ends gives them (B, M), whatever the step."""

    stream: Iterator[Tensor]
    scaler: Scaler
    binarise: bool = False
    device: torch.device | str = "cpu"

    def __call__(self, step: int) -> Tensor:
        return _inputs(next(self.stream).to(self.device), self)


def _inputs(x: Tensor, batches: Batches | StreamedBatches) -> Tensor:
    """Return the model inputs of examples as stored."""
    x = batches.scaler(x)
    return torch.bernoulli(x) if batches.binarise else x


def _permutation(n: int, *seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(mixed(*seed)))


def mixed(*numbers: int) -> int:
    """Return one seed made of several numbers; torch's CPU generator heeds 32 bits only, so shifts would lose some."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
