"""Charts of several runs: curves with seed bands, heat maps and strips of pictures. Arrays in, Figure out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from vsc.plots.drawing import (
    MARKERS,
    PALETTE,
    STYLE,
    WIDTH,
    axes_at,
    count_ticks,
    mosaic_of,
    peak_of,
    plain_text,
    show_pixels,
    value_limits,
)


class Curve(NamedTuple):
    """One line of a chart."""

    x: Sequence[float]  # length K: points; a y that is NaN is left out
    y: Sequence[float]
    # length K: standard deviation over the seeds, drawn as a band of one on either side
    spread: Sequence[float] | None = None
    dashed: bool = False  # whether it is a reference and not a result of ours: dashed, thin and grey


@STYLE
def lines(
    panels: Mapping[str, Mapping[str, Curve]],
    xlabel: str,
    ylabel: str | Sequence[str],
    log: bool = False,
    shared: bool = False,
) -> Figure:
    """
    Draw curves with seed bands, a panel beside another.

    Parameters
    ----------
    panels : mapping from title to mapping from name to Curve
        One to four panels. A name has the same colour and marker in all of them.
    xlabel : str
        The quantity, with its unit.
    ylabel : str or sequence of str
        The same, for all panels or for each.
    log : bool
        Whether the x axis is logarithmic.
    shared : bool
        Whether all panels have one y range.

    Returns
    -------
    Figure
        With one legend above the panels.
    """
    n = len(panels)
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    ours = [name for name in names if not any(name in curves and curves[name].dashed for curves in panels.values())]
    legend_rows = -(-len(names) // 5)
    height = 3.1 + 0.22 * legend_rows
    figure = Figure(figsize=(WIDTH if n > 1 else 7.0, height))
    width = ((WIDTH if n > 1 else 7.0) - 0.25) / n
    labels = [ylabel] * n if isinstance(ylabel, str) else list(ylabel)
    handles, limits = {}, []
    for i, (title, curves) in enumerate(panels.items()):
        axes = axes_at(figure, 0.75 + i * width, 0.55, width - 0.85, 2.3)
        for name, curve in curves.items():
            x, y = np.asarray(curve.x, dtype=float), np.asarray(curve.y, dtype=float)
            order = np.argsort(x, kind="stable")
            x, y = x[order], y[order]
            spread = None if curve.spread is None else np.asarray(curve.spread, dtype=float)[order]
            keep = np.isfinite(y)
            if curve.dashed:
                look = {"color": "#8a8a8a", "linestyle": DASHES[names.index(name) % len(DASHES)], "linewidth": 1.1}
            else:
                k = ours.index(name)
                marker = MARKERS[(k + k // 7) % 7]  # with the eighth, colours come again and markers do not
                look = {"color": PALETTE[k % 7], "marker": marker, "markersize": 4.5, "linewidth": 1.5}
            (handles[name],) = axes.plot(x[keep], y[keep], label=plain_text(name, 60), **look)
            if spread is not None and spread.any():
                low, high = (y - spread)[keep], (y + spread)[keep]
                axes.fill_between(x[keep], low, high, color=look["color"], alpha=0.18, linewidth=0)
        if log:
            ticks = sorted({float(v) for curve in curves.values() for v in np.asarray(curve.x, dtype=float)})
            axes.set_xscale("log")
            axes.set_xticks(apart(ticks))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set(title=plain_text(title, 80), xlabel=xlabel, ylabel=labels[i])
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
        limits.append(axes.get_ylim())
    if shared:
        for axes in figure.axes:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    shown = [handles[name] for name in names]
    figure.legend(
        handles=shown, loc="upper left", bbox_to_anchor=(0.5 / figure.get_size_inches()[0], 1), ncols=min(5, len(shown))
    )
    return figure


DASHES = [(0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (2, 2))]


def apart(ticks: Sequence[float], ratio: float = 1.35) -> list[float]:
    """Leave out ticks of a logarithmic axis that would touch the one before."""
    kept: list[float] = []
    for tick in ticks:
        if tick > 0 and (not kept or tick / kept[-1] >= ratio):
            kept.append(tick)
    return kept


@STYLE
def heatmaps(
    matrices: Mapping[str, ArrayLike],
    xlabel: str,
    ylabel: str,
    quantity: str,
    rows: Sequence[str] = (),
    groups: Sequence[str] = (),
    limits: tuple[float, float] | None = None,
) -> Figure:
    """
    Draw matrices as heat maps that share one scale, two beside each other.

    Parameters
    ----------
    matrices : mapping from title to array_like, shape (R, K)
        All with the same R.
    xlabel, ylabel : str
        What columns and rows are.
    quantity : str
        What the colour means, with its unit.
    rows : sequence of str
        Names of the R rows.
    groups : sequence of str
        Group of each row; a line parts one from the next.
    limits : tuple of float, optional
        Values at the ends of the scale; by default 0 and the largest, or symmetric where values are negative.

    Returns
    -------
    Figure
        Sequential colours for values that are not negative, else diverging ones.
    """
    tables = {title: np.asarray(matrix, dtype=float) for title, matrix in matrices.items()}
    top = max((float(np.nanmax(np.abs(t), initial=0.0)) for t in tables.values()), default=1.0) or 1.0
    diverging = any((t < 0).any() for t in tables.values())
    low, high = limits or ((-top, top) if diverging else (0.0, top))
    R = len(next(iter(tables.values())))
    per_row = 1 if len(tables) == 1 else 2
    lines_of = -(-len(tables) // per_row)
    left = 0.55 + (0.065 * max(map(len, rows)) if rows else 0.1)
    width = (WIDTH - 0.9) / per_row
    inner = min(0.2 * R, 3.4) if R > 4 else 0.3 * R
    tall = inner + 0.85
    figure = Figure(figsize=(WIDTH, lines_of * tall + 0.1))
    for i, (title, table) in enumerate(tables.items()):
        down, across = divmod(i, per_row)
        axes = axes_at(figure, left + across * width, (lines_of - 1 - down) * tall + 0.5, width - left - 0.1, inner)
        axes.imshow(
            table,
            aspect="auto",
            cmap="RdBu_r" if diverging else "cividis",
            vmin=low,
            vmax=high,
            interpolation="nearest",
        )
        axes.set(title=plain_text(title, 80), xlabel=xlabel)
        axes.spines[:].set_visible(True)
        if across == 0:
            axes.set_ylabel(ylabel)
        if rows:
            axes.set_yticks(range(R), [plain_text(name, 24) for name in rows], fontsize=7.0)
        for r in range(1, len(groups)):
            if groups[r] != groups[r - 1]:
                axes.axhline(r - 0.5, color="white", linewidth=1.4)
    bar = axes_at(figure, WIDTH - 0.72, 0.5, 0.13, min(lines_of * tall - 0.9, 3.4))
    figure.colorbar(figure.axes[0].images[0], cax=bar)
    bar.set_ylabel(quantity, fontsize=8)
    return figure


@STYLE
def strips(
    rows: Mapping[str, ArrayLike],
    shape: Sequence[int],
    columns: Sequence[str] = (),
    marked: Mapping[str, int] | None = None,
    cell: float = 0.78,
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """
    Draw rows of pictures, each row with its name before it.

    Parameters
    ----------
    rows : mapping from name to array_like, shape (K, M)
        Images; rows may differ in length.
    shape : sequence of int
        (C, H, W).
    columns : sequence of str
        Names above the pictures.
    marked : mapping from row to int, optional
        A picture of a row to frame, such as the one that a path starts from.
    cell : float
        Inches across a picture.
    notes : mapping from row to str, optional
        What stands behind a row.

    Returns
    -------
    Figure
        All on one grey scale.
    """
    tables = {name: np.asarray(row, dtype=float).reshape(-1, int(np.prod(shape))) for name, row in rows.items()}
    limits = value_limits(np.concatenate(list(tables.values())))
    K = max(len(table) for table in tables.values())
    longest = max((len(line) for name in tables for line in name.split("\n")), default=0)
    left, top = 0.15 + 0.068 * longest, 0.3 if columns else 0.05
    right = 0.1 + 0.068 * max(map(len, (notes or {"": ""}).values()))
    tall = cell * shape[1] / shape[2]
    figure = Figure(figsize=(left + K * cell + right, top + len(tables) * (tall + 0.04) + 0.05))
    up = figure.get_size_inches()[1]
    for r, (name, table) in enumerate(tables.items()):
        axes = axes_at(figure, left, up - top - (r + 1) * (tall + 0.04), len(table) * cell, tall)
        show_pixels(axes, mosaic_of(table[None], tuple(shape), limits), aspect="auto")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.text(
            -0.08 / (len(table) * cell), 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=8.5
        )
        if notes and name in notes:
            away = 1 + 0.06 / (len(table) * cell)
            axes.text(away, 0.5, notes[name], transform=axes.transAxes, va="center", fontsize=8.5)
        if r == 0:
            for k, label in enumerate(columns):
                axes.text((k + 0.5) / len(table), 1.04, label, transform=axes.transAxes, ha="center", fontsize=8)
        if marked and name in marked:
            place = {"transform": axes.transAxes, "clip_on": False}
            width = 1 / len(table)
            axes.add_patch(Rectangle((marked[name] * width, 0), width, 1, fill=False, color=PALETTE[1], lw=2, **place))
    return figure


@STYLE
def class_maps(panels: Mapping[str, Sequence[tuple[str, np.ndarray]]], classes: Sequence[str], xlabel: str) -> Figure:
    """
    Draw class by latent matrices, those of a model beside each other, each with its colour bar.

    `panels` are, for each model, a quantity's name and its matrix (C, J): a `mean code` has diverging colours about 0
    and a scale of its own, all others run from 0 to 1. `classes` are the names of the C classes, and `xlabel` says what
    the columns are.
    """
    names = [plain_text(name, 12) for name in classes]
    C, every = len(names), -(-len(names) // 20)
    left, inner = 0.3 + 0.07 * max(map(len, names)), float(np.clip(0.13 * len(names), 0.8, 2.8))
    tall, beside = inner + 0.95, 0.62
    places, row, at = [], 0, 0.0
    for name, maps in panels.items():
        width = left + sum(_wide(matrix) + beside for _, matrix in maps)
        if at and at + width > WIDTH:
            row, at = row + 1, 0.0
        places.append((name, maps, row, at + left))
        at += width
    figure = Figure(figsize=(WIDTH, (row + 1) * tall))
    for name, maps, down, at in places:
        bottom = (row - down) * tall + 0.45
        place = (at - left + 0.1) / WIDTH, (bottom + inner + 0.27) / ((row + 1) * tall)
        figure.text(*place, plain_text(name, 60), weight="bold")
        for k, (quantity, matrix) in enumerate(maps):
            signed, width = quantity == "mean code", _wide(matrix)
            axes = axes_at(figure, at, bottom, width, inner)
            high = peak_of(matrix) if signed else 1.0
            colours = {"cmap": "RdBu_r", "vmin": -high} if signed else {"cmap": "Blues", "vmin": 0.0}
            image = axes.imshow(matrix, aspect="auto", interpolation="nearest", vmax=high, **colours)
            axes.set_yticks(range(0, C, every), names[::every] if k == 0 else [""] * len(range(0, C, every)))
            axes.tick_params(length=2, labelsize=7)
            axes.set_title(quantity, fontsize=8.5)
            axes.set_xlabel(xlabel if width > 2.6 else "latent", fontsize=8)
            count_ticks(axes, matrix.shape[1])
            axes.spines[["top", "right"]].set_visible(True)
            bar = axes_at(figure, at + width + 0.05, bottom, 0.09, inner)
            figure.colorbar(image, cax=bar, ticks=MaxNLocator(3))
            bar.tick_params(length=2, labelsize=7)
            at += width + beside
    return figure


def _wide(matrix: np.ndarray) -> float:
    """Return the width of a matrix in inches."""
    return float(np.clip(0.07 * matrix.shape[1], 0.72, 3.85))
