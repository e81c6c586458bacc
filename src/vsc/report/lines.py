"""Signals as small line charts: inline SVG, a few hundred bytes each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

POINTS = 64  # a chart is about a hundred pixels wide
WIDTH, HEIGHT = 150, 54


class Line(NamedTuple):
    """One line of a chart."""

    kind: str  # name of the style class that colours it: `plain`, `off`, `low` or `high`
    points: str  # coordinates, as SVG has them


class Chart(NamedTuple):
    """A chart with its words."""

    lines: list[Line]  # drawn in this order
    zero: float | None  # height of the zero line; None where 0 is outside
    alt: str  # what is to be seen, for those who do not see it
    caption: str  # what stands below it


def chart(curves: Sequence[tuple[str, np.ndarray]], limits: tuple[float, float], alt: str, caption: str) -> Chart:
    """Draw `curves`, (kind, values (L,)) each, over each other, within `limits`; `alt` and `caption` are its words."""
    low, high = limits
    scale = (HEIGHT - 4) / ((high - low) or 1.0)

    def place(values: np.ndarray) -> np.ndarray:
        return HEIGHT - 2 - scale * (np.nan_to_num(values) - low)

    lines = []
    for kind, values in curves:
        short = np.array([part.mean() for part in np.array_split(values, min(POINTS, len(values)))])
        across = np.linspace(1, WIDTH - 1, len(short))
        lines.append(Line(kind, " ".join(f"{x:.0f},{y:.1f}" for x, y in zip(across, place(short), strict=True))))
    zero = float(place(np.zeros(1))[0])
    return Chart(lines, round(zero, 1) if 0 <= zero <= HEIGHT else None, alt, caption)
