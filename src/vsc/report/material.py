"""What the cards and the examples of one run's page are made from, and how numbers become bars."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from vsc.data import texts
from vsc.measure.measured import Measured
from vsc.model.scaling import moments_there
from vsc.plots.drawing import is_image, value_limits
from vsc.report.words import feature_names, number

STRONGEST = 100
"""Inputs of a latent over which pieces of texts are counted."""


class Material:
    """
    A measured split as cards and examples show it: N examples, K used latents, C classes, M values each.

    Parameters
    ----------
    seen : Measured
        The split.
    """

    def __init__(self, seen: Measured):
        self.seen, self.found, self.moved = seen, seen.survey, seen.effects
        self.ends, self.pairs, self.swept, self.profile = seen.extremes, seen.together, seen.strips, seen.by_class
        self.x, self.each = seen.x.numpy(), seen.unit.numpy()
        self.y = None if seen.part.y is None else seen.part.y.numpy()
        self.shape, self.classes, self.features = seen.model.shape, seen.data.classes, seen.data.features
        scaler = seen.model.scaler
        self.scale, self.shift, self.factor = scaler.kind, scaler.shift.numpy(), scaler.factor.numpy()

    @property
    def kind(self) -> str:
        """`text`, `images`, `signals` or `table`: how examples are shown."""
        if self.seen.data.texts and texts.SPAN in self.seen.part.extras:
            return "text"
        return "images" if is_image(self.shape) else "signals" if len(self.shape) == 2 else "table"

    @property
    def layout(self) -> str:
        """How the values themselves are laid out: `images`, `signals` or `table`, as those of texts are too."""
        return "table" if self.kind == "text" else self.kind

    @cached_property
    def names(self) -> list[str]:
        """The columns' names, or their numbers."""
        return feature_names(self.features, self.x.shape[1])

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The range of values to draw."""
        return value_limits(self.x)

    @cached_property
    def channel_limits(self) -> list[tuple[float, float]]:
        """The range of values to draw for each channel of signals: all but one value in a thousand at each end."""
        low, high = np.quantile(self.x.reshape(-1, *self.shape), (0.001, 0.999), axis=(0, 2))
        return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]

    @property
    def unit(self) -> str:
        """What a change of 1 is."""
        if self.scale == "standard" or self.seen.model.likelihood.own_units:
            return f"standard deviations of the {'column' if self.layout == 'table' else 'data'}"
        full = self.kind == "images" and self.scale == "unit-interval"
        return "model units (1 is the step from black to white)" if full else "model units"

    @cached_property
    def peak(self) -> float:
        """The size of a change that gets the darkest colour on the whole page."""
        both = [self.moved.raising] if self.moved.presence is None else [self.moved.presence, self.moved.raising]
        sizes = np.abs(np.concatenate([part.ravel() for part in both]))
        return float(np.quantile(sizes, 0.999)) if sizes.size and sizes.max() > 0 else 1.0

    def two_sided(self, k: int) -> bool:
        """Say whether the values of the k-th used latent have both signs, a tenth of them at least."""
        return bool(0.1 <= self.moved.positive[k] <= 0.9)

    def stored(self, x: np.ndarray) -> np.ndarray:
        """Take model units back to the units of the data, as far as that is possible."""
        return x / self.factor + self.shift

    def changed(self, change: np.ndarray) -> np.ndarray:
        """Take changes (..., M) as they are told to the units of the data."""
        return change * self.each / self.factor

    @cached_property
    def middle(self) -> np.ndarray:
        """The columns' means, in model units, (M,)."""
        return np.nan_to_num(moments_there(self.seen.x)[0].numpy())

    def context(self, i: int) -> texts.Context:
        """Return the piece of a text that an example is, and what stands beside it."""
        return texts.context(self.seen.data.texts, self.seen.part.extras[texts.SPAN][i].tolist())

    @cached_property
    def pieces(self) -> list[list[tuple[str, float]]]:
        """For each used latent, which pieces of texts its strongest inputs are, and what share of them each is."""
        out = []
        for j in self.found.shown:
            value = np.abs(self.found.value[:, int(j)])
            strongest = [i for i in np.argsort(-value, kind="stable")[:STRONGEST] if value[i] > 0]
            count = Counter(self.context(i).piece.strip().lower() for i in strongest)
            out.append([(piece, n / len(strongest)) for piece, n in count.most_common()])
        return out

    def label(self, i: int) -> str:
        """Return the class of an example, or nothing."""
        return "" if self.y is None else self.class_name(int(self.y[i]))

    def class_name(self, c: int) -> str:
        """Return the name of a class, or its number."""
        return self.classes[c] if c < len(self.classes) else str(c)


class Bar(NamedTuple):
    """One bar beside its label and its number."""

    label: str
    text: str  # the number as printed
    left: float  # where it begins, per cent of the whole
    width: float  # how long it is, per cent of the whole
    negative: bool = False
    latent: int | None = None  # the one that the label links to


def bars(values: Sequence[float], labels: Sequence[str], texts: Sequence[str], peak: float | None = None) -> list[Bar]:
    """
    Lay out bars of `values`, beside their `labels` and `texts`: from the left where none is negative, else about zero.

    The longest that there can be is of `peak`, by default the largest value; NaN is drawn as 0.
    """
    sizes = np.nan_to_num(np.asarray(values, float))
    peak = (float(np.abs(sizes).max(initial=0)) if peak is None else peak) or 1.0
    low = min(0.0, float(sizes.min(initial=0))) / peak
    span = max(float(sizes.max(initial=0)) / peak if low < 0 else 1.0, 0.0) - low or 1.0
    out = []
    for value, label, text in zip(sizes / peak, labels, texts, strict=True):
        value = float(np.clip(value, low, 1))
        left = 100 * (min(value, 0) - low) / span
        out.append(Bar(label, text, round(left, 1), round(100 * abs(value) / span, 1), value < 0))
    return out


def percent(share: float) -> str:
    """Print a share as per cent, with a decimal below ten."""
    return f"{number(100 * share, '.0f' if share >= 0.0995 else '.1f')} %"
