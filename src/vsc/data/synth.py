"""
Synth: vectors that are sums of a few known directions, so that it can be measured whether a model finds them.

Source: the generator of SynthSAEBench (Chanin and Garriga-Alonso 2026), as its paper and released settings describe it.
Features have random directions, more of them than dimensions; they fire at rates that fall as a power of their rank,
together or apart as a Gaussian copula of low rank has it. Some form trees: a child fires only if its parent does, and
at most one child of a parent. There, the original draws children like all others, switches off what may not be, and
raises the rates to make up for it as far as it goes. Here, one child or none is drawn where the parent fires, which
makes every rate exactly what `World.rates` says; the copula then joins children through their parents alone.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vsc.data.split import Source, Split
from vsc.errors import UsageError, choose

BLOCK = 1024
"""Rows that are drawn together: memory is bounded by it, however many there are."""
FILLED = 0.75
"""Largest share of a parent's firing that its children take together."""
TRAIN, VALID, TEST = 0, 1, 2
"""Parts of a world: rows of one are rows of no other."""


@dataclass(frozen=True)
class Plan:
    """
    What a world is like.

    Attributes
    ----------
    features, width : int
        Features F, and dimensions M.
    highest, lowest : float
        Rate of the first feature and of the last; between them, rates fall affinely with rank^-1/2.
    roots, children, depth : int
        Trees, whose roots are the first features, with so many children for each parent; levels below the root.
        Features are given to them level by level.
    rank, correlation : int, float
        Of the copula: its loadings (F, rank) are N(0, correlation^2).
    magnitude : tuple of float
        Mean magnitude of the first feature and of the last; linear between them.
    spread : tuple of float
        The standard deviation of each feature's magnitude is |N(mean, sd^2)|, of these two.
    scaled : bool
        Whether a child's magnitude is multiplied by its parent's, relative to the parent's mean.
    bias : float
        Norm of what is added to all rows.
    """

    features: int
    width: int
    highest: float
    lowest: float
    roots: int = 128
    children: int = 4
    depth: int = 1
    rank: int = 25
    correlation: float = 0.1
    magnitude: tuple[float, float] = (5.0, 4.0)
    spread: tuple[float, float] = (0.5, 0.5)
    scaled: bool = False
    bias: float = 0.5


WORLDS = {
    "synth": Plan(1024, 192, 0.2, 0.2 / 32),
    "synth-16k": Plan(16_384, 768, 0.4, 5e-4, depth=3, scaled=True),
}
"""Name -> plan: one that suits two CPU cores, and the published one. In the first, rates are .2 rank^-1/2."""
ROWS = {"synth": (200_000, 10_000), "synth-16k": (65_536, 8192)}
"""Name -> rows in memory to train on, and to validate and to test on. The published world goes on training for ever."""


class Rows(NamedTuple):
    """
    Some rows of a world.

    Attributes
    ----------
    x : torch.Tensor, shape (N, M)
        The rows.
    activations : torch.Tensor, shape (N, F)
        The magnitude of each feature in each row; exactly zero where it does not fire.
    """

    x: Tensor
    activations: Tensor


class World:
    """
    A world: all that is fixed in it, and its rows, without end.

    Rows are a pure function of plan, seed, part and block.

    Parameters
    ----------
    plan : Plan
        What it is like.
    seed : int
        Of what is drawn once.

    Attributes
    ----------
    directions : torch.Tensor, shape (F, M)
        Unit vectors.
    bias : torch.Tensor, shape (M,)
        Added to all rows.
    rates : torch.Tensor, shape (F,)
        How often each feature fires.
    parents : torch.Tensor, shape (F,), int64
        The feature without which it does not; -1 for none.
    magnitudes, spreads : torch.Tensor, shape (F,)
        Mean and standard deviation of each feature's magnitude, before its sign is dropped.
    """

    def __init__(self, plan: Plan, seed: int = 0):
        self.plan, self.seed = plan, seed
        rng, F = np.random.default_rng((seed, 0)), plan.features
        self.directions = _unit(rng.standard_normal((F, plan.width)))
        self.bias = plan.bias * _unit(rng.standard_normal((1, plan.width)))[0]
        self.magnitudes = torch.linspace(*plan.magnitude, F)
        self.spreads = torch.from_numpy(np.abs(rng.normal(*plan.spread, F))).float()
        self._levels = list(_levels(plan))
        self.parents = torch.full((F,), -1)
        power = (torch.arange(F, dtype=torch.float64) + 1) ** -0.5
        self.rates = plan.lowest + (plan.highest - plan.lowest) * (power - power[-1]) / (1 - power[-1])
        self._shares = []  # of each level, (parents, children): how often a child fires where its parent does
        for parents, below in self._levels:
            self.parents[below] = torch.arange(F)[parents].repeat_interleave(plan.children)
            share = self.rates[below].view(-1, plan.children) / self.rates[parents, None]
            share = share * (FILLED / share.sum(1, keepdim=True)).clamp(max=1)
            self.rates[below] = (self.rates[parents, None] * share).flatten()
            self._shares.append(share)
        self._free = (self.parents < 0).nonzero().flatten()
        loadings = plan.correlation * rng.standard_normal((len(self._free), plan.rank), np.float32)
        size = np.linalg.norm(loadings, axis=1)
        loadings = torch.from_numpy(loadings / max(1.0, size.max() / 0.99))
        own = (1 - loadings.square().sum(1)).sqrt()
        # u . loading + own e > threshold, in units of own: what depends on u alone is on one side
        self._loadings = loadings / own[:, None]
        self._thresholds = torch.special.ndtri(1 - self.rates[self._free]).float() / own

    @property
    def l0(self) -> float:
        """Features that fire in a row, on average."""
        return self.rates.sum().item()

    def block(self, part: int, number: int) -> Rows:
        """Return the `BLOCK` rows of a block, counted from 0, of a part."""
        rng, plan = np.random.default_rng((self.seed, 1 + part, number)), self.plan
        fires = torch.zeros(BLOCK, plan.features, dtype=torch.bool)
        shared = torch.from_numpy(rng.standard_normal((BLOCK, plan.rank), np.float32)) @ self._loadings.T
        own = torch.from_numpy(rng.standard_normal((BLOCK, len(self._free)), np.float32))
        fires[:, self._free] = own + shared > self._thresholds
        for (parents, below), share in zip(self._levels, self._shares, strict=True):
            u = torch.from_numpy(rng.random((BLOCK, len(share), 1), np.float32))
            top = share.cumsum(1).float()
            chosen = (u < top) & (u >= torch.cat([torch.zeros_like(top[:, :1]), top[:, :-1]], 1))
            fires[:, below] = (chosen & fires[:, parents, None]).flatten(1)
        where = fires.nonzero()
        noise = torch.from_numpy(rng.standard_normal(len(where), np.float32))
        values = torch.addcmul(self.magnitudes[where[:, 1]], self.spreads[where[:, 1]], noise).abs()
        activations = torch.zeros(BLOCK, plan.features)
        activations[where[:, 0], where[:, 1]] = values
        for parents, below in self._levels if plan.scaled else ():
            relative = activations[:, parents] / self.magnitudes[parents]
            activations[:, below] *= relative.repeat_interleave(plan.children, 1)
        return Rows(activations.to_sparse() @ self.directions + self.bias, activations)

    def rows(self, n: int, part: int = TRAIN) -> Iterator[Rows]:
        """Yield the first `n` rows of a part, at most `BLOCK` at a time."""
        for number in range(math.ceil(n / BLOCK)):
            yield Rows(*(of[: n - number * BLOCK] for of in self.block(part, number)))

    def stream(self, batch_size: int) -> Iterator[Tensor]:
        """Yield batches of training rows, (batch_size, M), for ever."""
        held, number = torch.empty(0, self.plan.width), 0
        while True:
            while len(held) < batch_size:
                held, number = torch.cat([held, self.block(TRAIN, number).x]), number + 1
            yield held[:batch_size]
            held = held[batch_size:]


def _unit(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)).float()


def _levels(plan: Plan) -> Iterator[tuple[slice, slice]]:
    """Yield the features that are parents, and those that are their children in the same order, level by level."""
    parents = slice(0, plan.roots)
    for _ in range(plan.depth):
        below = slice(parents.stop, parents.stop + (parents.stop - parents.start) * plan.children)
        if below.stop > plan.features:
            raise UsageError(f"the trees take {below.stop} features, and there are {plan.features}; ask for fewer")
        yield parents, below
        parents = below


@cache
def world(name: str = "synth", seed: int = 0) -> World:
    """Return the world of a name in `WORLDS`; the data sets of these names are those of seed 0."""
    return World(choose(WORLDS, name, "world"), seed)


def load(root: Path) -> Source:
    """
    Generate 200 000 rows of the small world to train on and 10 000 others each to validate and to test on.

    1024 features in 192 dimensions; `world()` knows their directions and rates. `extras["fires"]` (N, 1024), bool, of
    the validation and test parts says which fire. Always the same rows; nothing is downloaded to `root`.
    """
    return source("synth")


def load_published(root: Path) -> Source:
    """
    Generate the world of the published settings: 16 384 features in 768 dimensions.

    Training rows are a stream without end; 8192 others each are there to validate and to test on.
    """
    found = source("synth-16k")
    notes = ("training rows are generated as they are needed, without end",)
    return found._replace(train=replace(found.train, stream=world("synth-16k").stream), notes=notes)


def source(name: str) -> Source:
    """Return the data set of a name in `WORLDS`, of as many rows as `ROWS` says."""
    one, (train, held) = world(name), ROWS[name]
    known = Split(torch.cat([rows.x for rows in one.rows(train)]))
    valid, test = _known(one, held, VALID), _known(one, held, TEST)
    return Source(known, test, shape=(one.plan.width,), valid=valid, directions=one.directions)


def _known(one: World, n: int, part: int) -> Split:
    """Return rows of which it is known what fires."""
    x, fires = zip(*((rows.x, rows.activations != 0) for rows in one.rows(n, part)), strict=True)
    return Split(torch.cat(x), extras={"fires": torch.cat(fires)})
