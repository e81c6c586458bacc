"""Curves of one training run or of a search: arrays in, matplotlib ``Figure`` out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from vsc.plots.charts import Curve, lines
from vsc.plots.drawing import (
    INK,
    MARKERS,
    PALETTE,
    STYLE,
    WIDTH,
    axes_at,
    cut_low_values,
    plain_text,
    say_instead,
    series_of,
    sparsely,
)


@STYLE
def training_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """
    Draw the ELBO, l0 and the used latents against the training step, from each model's rows of ``metrics.jsonl``.

    One colour and marker per model, validation solid and training dashed. The lower two use validation, or training
    where a history has no validation rows.
    """
    figure = Figure(figsize=(WIDTH, 3.7))
    elbo = axes_at(figure, 0.75, 0.55, 4.2, 2.35)
    l0 = axes_at(figure, 5.75, 0.55, 1.85, 2.35)
    used = axes_at(figure, 8.35, 0.55, 1.85, 2.35)
    handles = []
    for i, (name, rows) in enumerate(histories.items()):
        # Models without spikes all sit at J: later lines are thinner, so that earlier ones show behind them.
        look = {"color": PALETTE[i % 7], "linewidth": max(1.2, 3.0 - 0.6 * i)}
        valid = {"marker": MARKERS[i % 7], "markersize": 4, **look}
        elbo.plot(*series_of(rows, "train", "elbo"), linestyle=(0, (3, 2)), **{**look, "linewidth": 1.0})
        elbo.plot(*(curve := series_of(rows, "valid", "elbo")), **valid, markevery=sparsely(curve))
        for axes, key in ((l0, "l0"), (used, "used")):
            curve = series_of(rows, "valid", key)
            curve = curve if curve[0].size else series_of(rows, "train", key)
            axes.plot(*curve, **valid, markevery=sparsely(curve))
        bounded = any(series_of(rows, split, "elbo")[0].size for split in ("train", "valid"))
        handles.append(Line2D([], [], label=plain_text(name) + ("" if bounded else " (no bound)"), **valid))
    cut = cut_low_values(elbo)
    last = max((row["step"] for rows in histories.values() for row in rows), default=1)
    for axes, title, unit in (
        (elbo, "ELBO" + (" (some values lie below the axis)" if cut else ""), "nats per example"),
        (l0, "expected latents, l0", "latents per example"),
        (used, "used latents", "latents"),
    ):
        axes.set(title=title, xlabel="step", ylabel=unit, xlim=(-0.03 * last, 1.04 * max(last, 1)))
        axes.xaxis.set_major_locator(MaxNLocator(5 if axes is elbo else 3, integer=True))
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
        if axes is not elbo:
            axes.set_ylim(0, axes.get_ylim()[1])
            axes.yaxis.set_major_locator(MaxNLocator(7, integer=True))
        if not any(len(np.asarray(line.get_xdata())) for line in axes.lines):
            say_instead(axes, "no values recorded")
    handles += [Line2D([], [], color=INK, label="validation")]
    handles += [Line2D([], [], color=INK, linewidth=1.0, linestyle=(0, (3, 2)), label="training")]
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.06, 1.0), ncols=min(len(handles), 6))
    return figure


@STYLE
def front(points: Mapping[str, ArrayLike], levels: Mapping[str, float] | None = None) -> Figure:
    """Draw the bound against the sparsity that it is reached with: (l0, ELBO) of families, levels of dense models."""
    figure = Figure(figsize=(6.4, 3.9))
    axes = axes_at(figure, 0.75, 0.55, 5.4, 3.1)
    for i, (name, family) in enumerate(points.items()):
        table = np.asarray(family, dtype=float)
        table = table[np.argsort(table[:, 0])]
        look = {"color": PALETTE[i % 7], "marker": MARKERS[i % 7], "markersize": 6, "linewidth": 0.8}
        axes.plot(table[:, 0], table[:, 1], label=plain_text(name), **look)
    for i, (name, level) in enumerate((levels or {}).items(), start=len(points)):
        axes.axhline(level, color=PALETTE[i % 7], linestyle=(0, (4, 2)), linewidth=1.2, label=plain_text(name))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("l0: latents on per example (log scale)")
    axes.set_ylabel("ELBO (nats per example)")
    axes.legend(loc="lower right")
    return figure


@STYLE
def nonzeros(panels: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """
    Draw what codes are worth against how many non-zeros they have, a panel beside another.

    Parameters
    ----------
    panels : mapping from quantity, with its unit, to mapping from name to array_like, shape (P, 2)
        One or two panels of points (non-zeros, value), the code as it is last: that one is ringed. A name has the same
        colour and marker in all of them.

    Returns
    -------
    Figure
        On a logarithmic x axis to base two, with one legend above the panels.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    rows = -(-len(names) // 4)
    width, head = WIDTH / 2, 0.3 + 0.2 * rows
    figure = Figure(figsize=(width * len(panels), 2.95 + head))
    handles = {}
    for i, (quantity, curves) in enumerate(panels.items()):
        axes = axes_at(figure, 0.75 + i * width, 0.55, width - 0.95, 2.4)
        for name, points in curves.items():
            k = names.index(name)
            table = np.asarray(points, dtype=float)
            table = table[np.isfinite(table).all(1) & (table[:, 0] > 0)]
            look = {"color": PALETTE[k % 7], "marker": MARKERS[k % 7], "linewidth": 1.4}
            (handles[name],) = axes.plot(table[:, 0], table[:, 1], markersize=4, label=plain_text(name), **look)
            axes.plot(*table[-1:].T, "o", color=PALETTE[k % 7], markersize=9.5, markerfacecolor="none")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(xlabel="non-zero latents per input (log scale)", ylabel=quantity)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
    figure.legend(
        handles=list(handles.values()), loc="upper left", bbox_to_anchor=(0.06, 1.0), ncols=min(len(names), 4)
    )
    return figure


def path(l0: Sequence[float], elbo: Curve, stability: Mapping[str, Sequence[float]], chosen: float) -> Figure:
    """
    Draw what an l0 costs and which latents come back with it, a panel each.

    Parameters
    ----------
    l0 : sequence of float
        Latents per example.
    elbo : Curve
        Over l0, nats per example, with its spread over the seeds.
    stability : mapping from name to sequence of float
        In [0, 1], at each l0.
    chosen : float
        The l0 that is marked.

    Returns
    -------
    Figure
        With a logarithmic axis of l0.
    """
    panels = {
        "bound": {"ELBO, ± standard deviation over seeds": elbo},
        "latents that come back": {name: Curve(l0, values) for name, values in stability.items()},
    }
    units = ("ELBO (nats per example)", "stability over seeds (0 to 1)")
    figure = lines(panels, "l0 (latents per example, log scale)", units, log=True)
    for axes in figure.axes:
        axes.axvline(chosen, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    low, high = figure.axes[1].get_ylim()
    figure.axes[1].set_ylim(max(0.0, low), min(1.02, high))
    return figure
