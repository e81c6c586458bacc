"""What is kept of each run of a model with several seeds, and which of the latents come back in the others."""

import contextlib
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from vsc.files import write_npz
from vsc.measure.effects import spread
from vsc.measure.measured import Measured
from vsc.measure.results import weights
from vsc.metrics.arrays import Array
from vsc.metrics.matching import code_correlations, cosines, matched, stability
from vsc.torchstate import cpu_threads

COMES_BACK = 0.8
"""Cosine of a latent's effect with its match from which on it is said to come back."""
EXAMPLES = 2000
"""Examples, spread evenly over the split, whose codes are kept."""


class Trace(NamedTuple):
    """
    What the K used latents of one run do, and when: what other runs are compared with.

    Attributes
    ----------
    latent : numpy.ndarray, shape (K,), int
        Which latents, as in `Survey.shown`.
    rate : numpy.ndarray, shape (K,)
        Share of the examples that each is on for.
    change : numpy.ndarray, shape (K, M)
        What each does to the output, `Effects.change`, in model units.
    turned_on : numpy.ndarray, shape (K,), bool
        Whether that is of turning it on, so that its sign means something, and not of raising it.
    code : numpy.ndarray, shape (N, K)
        Mean codes gamma mu of up to 2000 examples, the same for all runs.
    """

    latent: Array
    rate: Array
    change: Array
    turned_on: Array
    code: Array


class Returning(NamedTuple):
    """
    Which latents of a model come back in its S runs with other seeds.

    Attributes
    ----------
    effects, codes : float
        Mean over pairs of runs of `vsc.metrics.stability`: of the cosines of the latents' effects, and of the
        correlations of their codes.
    first : Trace
        The K used latents of the first run.
    cosine : numpy.ndarray, shape (S - 1, K)
        How like its effect is to that of its match in each other run; 0 where it has none.
    other : numpy.ndarray, shape (S - 1, K), int
        Which latent of that run its match is; -1 where it has none.
    change : numpy.ndarray, shape (S - 1, K, M)
        The match's effect, with its sign turned where that means nothing; 0 where there is none.
    """

    effects: float
    codes: float
    first: Trace
    cosine: Array
    other: Array
    change: Array

    @property
    def summary(self) -> dict[str, float]:
        """The numbers for a file: those two, how many latents of the first run come back, and of how many."""
        return {"effects": self.effects, "codes": self.codes, "come_back": self.come_back, "of": len(self.first.latent)}

    @property
    def come_back(self) -> int:
        """How many latents of the first run come back in every other."""
        return int((self.cosine >= COMES_BACK).all(0).sum())


def trace(seen: Measured) -> Trace:
    """Return what is kept of a run, measured on a split."""
    with cpu_threads(seen.model):
        found, codes = seen.effects, seen.codes.z.numpy()
    rows = spread(np.arange(len(codes)), EXAMPLES)
    change, code = found.change.astype(np.float32), codes[rows][:, found.latent]
    return Trace(found.latent, found.rate, np.nan_to_num(change), found.turned_on, np.nan_to_num(code))


def write_trace(folder: Path, seen: Measured) -> None:
    """Write what is kept of a run, `seen` on a split, into its `folder`: latents.npz."""
    about = {"split": seen.split, "weights": weights(folder)}
    write_npz(folder / "latents.npz", trace(seen)._asdict() | about)


def read_trace(folder: Path, split: str = "test") -> Trace | None:
    """Return what is kept of a run in a `folder`; None if nothing of these weights on this `split` is, or is sound."""
    with contextlib.suppress(OSError, ValueError, KeyError, BadZipFile), np.load(folder / "latents.npz") as kept:
        if (kept["split"], kept["weights"]) == (split, weights(folder)):
            return Trace(*(kept[name] for name in Trace._fields))
    return None


def match_runs(runs: Sequence[Trace]) -> Returning:
    """Match the latents of all pairs of two or more `runs` of a model, which encoded the same examples."""
    pairs = list(combinations(runs, 2))
    effects = [stability(cosines(a.change, b.change, a.turned_on, b.turned_on)) for a, b in pairs]
    codes = [stability(code_correlations(a.code, b.code)) for a, b in pairs]
    first, K, M = runs[0], *runs[0].change.shape
    cosine, other, change = (np.zeros((len(runs) - 1, K, *more)) for more in ((), (), (M,)))
    for r, run in enumerate(runs[1:]):
        found = matched(cosines(first.change, run.change, first.turned_on, run.turned_on))
        there = found.other >= 0
        theirs = run.change[found.other[there]]
        sign = np.where((theirs * first.change[there]).sum(1) < 0, -1, 1)
        change[r, there] = sign[:, None] * theirs
        cosine[r], other[r] = found.similarity, -1
        other[r, there] = run.latent[found.other[there]]
    return Returning(float(np.mean(effects)), float(np.mean(codes)), first, cosine, other.astype(int), change)
