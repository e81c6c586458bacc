"""Charts with pictures in them: grids of them, and codes with what they decode to. Arrays in, Figure out."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from vsc.plots.drawing import (
    CODE,
    INK,
    PALETTE,
    STYLE,
    WIDTH,
    axes_at,
    code_bars,
    draw_example,
    mosaic_of,
    peak_of,
    plain_text,
    show_difference,
    show_pixels,
    value_limits,
)

CHANGED = PALETTE[1]


class Change(NamedTuple):
    """A code after something in it was altered."""

    title: str  # what was altered
    code: np.ndarray  # (J,): the code
    picture: np.ndarray  # (M,): what it decodes to


class Case(NamedTuple):
    """A code, and what becomes of it."""

    name: str  # what is encoded
    x: np.ndarray  # (M,): the input
    code: np.ndarray  # (J,): its code
    picture: np.ndarray  # (M,): what the code decodes to
    changes: list[Change]  # altered codes; the same number in every case of a figure


def alteration(latent: int, before: float, after: float) -> str:
    """Return what was done to a `latent`, from `before` to `after`, as a title: "latent 2: +1.5 → off", 0 being off."""
    values = ("off" if value == 0 else f"{value:+.1f}".replace("-", "−") for value in (before, after))
    return f"latent {latent}: " + " → ".join(values)


class Strip(NamedTuple):
    """Pictures in a row."""

    pictures: np.ndarray  # (K, M): in their order
    labels: Sequence[str]  # length K: what stands above each


@STYLE
def mosaics(
    panels: Mapping[str, ArrayLike],
    shape: Sequence[int],
    columns: int,
    axis_names: tuple[str, str] | None = None,
    reach: float = 1.0,
) -> Figure:
    """
    Draw several sets of pictures, each as a grid of its own, up to three beside each other; one grey scale for all.

    `panels` are the sets by their titles, (R * columns, M), row by row from the top, of `shape` (C, H, W), with so many
    `columns`. Where the places stand for two quantities, `axis_names` names these; they run from -`reach` to `reach`,
    upwards and to the right.
    """
    tables = {title: np.asarray(pictures, dtype=float) for title, pictures in panels.items()}
    limits = value_limits(np.concatenate(list(tables.values())))
    across = 2 if len(tables) in (2, 4) else min(len(tables), 3)
    down = -(-len(tables) // across)
    left, foot, head = (0.5, 0.48, 0.3) if axis_names else (0.1, 0.1, 0.3)
    size = min(WIDTH / across, 4.6) - left - 0.1
    rows = len(next(iter(tables.values()))) // columns
    tall = size * rows * shape[1] / (columns * shape[2])
    figure = Figure(figsize=(across * (size + left + 0.1), down * (tall + foot + head)))
    for i, (title, table) in enumerate(tables.items()):
        row, column = divmod(i, across)
        bottom = (down - 1 - row) * (tall + foot + head) + foot
        axes = axes_at(figure, left + column * (size + left + 0.1), bottom, size, tall)
        edge = reach * (1 + 1 / (columns - 1))
        picture = mosaic_of(table.reshape(rows, columns, -1), shape, limits)
        show_pixels(axes, picture, extent=(-edge, edge, -edge, edge), aspect="auto")
        axes.set_title(plain_text(title, 60))
        axes.spines[:].set_visible(False)
        if axis_names:
            axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        else:
            axes.set(xticks=[], yticks=[])
    return figure


@STYLE
def altered(cases: Sequence[Case], shape: Sequence[int], strips: Mapping[str, Strip] | None = None) -> Figure:
    """
    Draw codes of `cases` before and after an alteration, and below each what it decodes to, of `shape` (C, H, W).

    Bars are blue as they were and orange where they were altered, with an arrow from the one to the other. Beside the
    altered picture stands its change: red where it is brighter, blue where it is darker. `strips` are rows of pictures
    at the foot of the figure, by their names.
    """
    n = 1 + max(len(case.changes) for case in cases)
    left, right, bars, side = 0.95, 0.75, 0.95, 0.95
    width = (WIDTH - left - right) / n
    block = bars + side * shape[1] / shape[2] + 0.85
    below = {name: _size(strip, shape) for name, strip in (strips or {}).items()}
    figure = Figure(figsize=(WIDTH, len(cases) * block + 0.1 + sum(tall + 0.32 for _, tall in below.values())))
    up = float(figure.get_size_inches()[1])
    codes = [c for case in cases for c in (case.code, *(change.code for change in case.changes))]
    peak = 1.15 * peak_of(np.concatenate(codes))
    limits = value_limits(np.stack([p for case in cases for p in (case.x, case.picture)]))
    differences = [change.picture - case.picture for case in cases for change in case.changes]
    reach = peak_of(np.concatenate(differences or [np.zeros(1)]))
    shown = None
    for i, case in enumerate(cases):
        floor = up - (i + 1) * block
        low, high = floor + 0.12, floor + 0.12 + side * shape[1] / shape[2] + 0.42
        figure.text(
            0.12 / WIDTH, (high + bars / 2) / up, _wrapped(case.name), fontsize=9, weight="bold", va="center", color=INK
        )
        for k, change in enumerate([None, *case.changes]):
            at = left + k * width
            axes = axes_at(figure, at, high, width - 0.38, bars)
            _bars(axes, case.code, None if change is None else change.code, peak, width - 0.38)
            axes.set_title("code before" if change is None else plain_text(change.title, 60), fontsize=9)
            axes.set_xlabel("latent index", fontsize=7.5, labelpad=1)
            axes.set_ylabel("")
            if change is None:
                _mark(axes, case)
            pictures = (case.x, case.picture) if change is None else (case.picture, change.picture)
            middle = at + (width - 0.38) / 2
            first = axes_at(figure, middle - side - 0.02, low, side, side * shape[1] / shape[2])
            second = axes_at(figure, middle + 0.02, low, side, side * shape[1] / shape[2])
            if change is None:
                draw_example(first, pictures[0], shape, limits, INK)
                draw_example(second, pictures[1], shape, limits, CODE)
                names = "input", "decoded"
            else:
                draw_example(first, pictures[1], shape, limits, CODE)
                difference = (pictures[1] - pictures[0]).reshape(tuple(shape)).mean(0)
                shown = show_difference(second, difference, reach)
                first.spines[:].set(visible=True, color=CHANGED, linewidth=1.5)
                names = "decoded", "change"
            for axes, name in ((first, names[0]), (second, names[1])):
                axes.set_xlabel(name, fontsize=7.5, labelpad=1)
    if shown is not None:
        bar = axes_at(figure, WIDTH - right + 0.02, up - block + 0.2, 0.12, block - 0.6)
        figure.colorbar(shown, cax=bar, ticks=MaxNLocator(4)).set_label("change of a pixel", fontsize=8)
    bottom = up - len(cases) * block
    for name, strip in (strips or {}).items():
        cell, tall = below[name]
        bottom -= tall + 0.32
        _strip(axes_at(figure, left + 0.1, bottom + 0.06, cell * len(strip.labels), tall), strip, shape, limits)
        figure.text(0.12 / WIDTH, (bottom + 0.06 + tall / 2) / up, name, fontsize=8.5, va="center", color=INK)
    return figure


def _wrapped(name: str) -> str:
    return "\n".join(textwrap.fill(plain_text(line), 9, break_long_words=False) for line in name.split("\n"))


def _size(strip: Strip, shape: Sequence[int]) -> tuple[float, float]:
    """Return width and height of a strip's pictures, in inches."""
    cell = min(0.85, (WIDTH - 1.2) / len(strip.labels))
    return cell, cell * shape[1] / shape[2]


def _strip(axes: Axes, strip: Strip, shape: Sequence[int], limits: tuple[float, float]) -> None:
    show_pixels(axes, mosaic_of(strip.pictures[None], tuple(shape), limits), aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for k, label in enumerate(strip.labels):
        place: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "color": INK}
        axes.text((k + 0.5) / len(strip.labels), 1.03, label, fontsize=7, **place)


def _bars(axes: Axes, before: np.ndarray, after: np.ndarray | None, peak: float, width: float) -> None:
    """Draw a code, or an altered one over what it was."""
    if after is None:
        code_bars(axes, before, peak, width)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return
    moved = np.flatnonzero(_moved(before, after))
    code_bars(axes, np.where(_moved(before, after), 0.0, after), peak, width)
    line = float(np.clip(0.62 * width * 72 / len(before), 1.2, 16))
    axes.vlines(moved, 0, before[moved], color="#9cc3de", linewidth=line)
    axes.vlines(moved, 0, after[moved], color=CHANGED, linewidth=line)
    axes.plot(moved, after[moved], "o", color=CHANGED, markersize=4.5, clip_on=False)
    if len(moved) <= 3:
        for j in moved:
            arrow = {"arrowstyle": "->", "color": CHANGED, "linewidth": 1.2}
            beside = j + (0.035 if j < 0.8 * len(before) else -0.035) * len(before)
            axes.annotate("", (beside, after[j]), (beside, before[j]), arrowprops=arrow)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _moved(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Say which latents differ by more than rounding."""
    return ~np.isclose(before, after, rtol=1e-4, atol=1e-5)


def _mark(axes: Axes, case: Case) -> None:
    """Ring and number the latents of a code that are altered alone."""
    for change in case.changes:
        moved = np.flatnonzero(_moved(case.code, change.code))
        if len(moved) == 1:
            j, value = int(moved[0]), float(case.code[moved[0]])
            axes.plot(j, value, "o", color=CHANGED, markersize=5.5, markerfacecolor="none", clip_on=False)
            axes.annotate(
                str(j), (j, value), (3, 4 if value >= 0 else -11), textcoords="offset points", fontsize=7, color=CHANGED
            )


@STYLE
def codes_beside(
    inputs: Sequence[tuple[str, np.ndarray]], columns: Mapping[str, Sequence[Change]], shape: Sequence[int]
) -> Figure:
    """
    Draw one input per row, and for each model its code and what the code decodes to.

    `inputs` are names and values (M,), of `shape` (C, H, W); `columns` are, for each model, a code and its picture for
    each input, with the title that stands above its bars. Each model's codes share one scale; a latent that is off is a
    grey dot.
    """
    n, side = len(columns), 0.86
    tall = side * shape[1] / shape[2]
    left, row = 0.3, tall + 0.34
    width = (WIDTH - left - side - 0.1) / n
    figure = Figure(figsize=(WIDTH, len(inputs) * row + 0.75))
    limits = value_limits(np.stack([x for _, x in inputs]))
    up = float(figure.get_size_inches()[1])
    for i, (name, x) in enumerate(inputs):
        bottom = up - 0.5 - (i + 1) * row + 0.3
        axes = axes_at(figure, left, bottom, side, tall)
        draw_example(axes, x, shape, limits, INK)
        axes.set_ylabel(plain_text(name, 14))
        if i == 0:
            axes.set_title("input")
        for k, (title, codes) in enumerate(columns.items()):
            at = left + side + 0.1 + k * width
            bars = axes_at(figure, at + 0.4, bottom, width - side - 0.6, tall)
            code_bars(bars, codes[i].code, peak_of([c.code for c in codes]), width - side - 0.6)
            bars.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            bars.tick_params(labelbottom=i == len(inputs) - 1)
            bars.set_ylabel("")
            bars.text(1, 1.03, codes[i].title, transform=bars.transAxes, ha="right", fontsize=7.5, color=INK)
            picture = axes_at(figure, at + width - side - 0.12, bottom, side, tall)
            draw_example(picture, codes[i].picture, shape, limits, CODE)
            if i == 0:
                place = (at + 0.4) / WIDTH, 1 - 0.22 / up
                figure.text(*place, f"{plain_text(title, 30)}: code and what it decodes to", fontsize=9.5)
            if i == len(inputs) - 1:
                bars.set_xlabel("latent index")
    return figure
