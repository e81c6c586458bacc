"""Draw training, codes and reconstructions: arrays in, matplotlib ``Figure`` out; no pyplot, no global."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from vsc.drawing import (
    CODE,
    INK,
    MARKERS,
    PALETTE,
    STYLE,
    WIDTH,
    axes_at,
    class_label,
    code_bars,
    code_title,
    count_ticks,
    cut_low_values,
    draw_example,
    feature_names,
    foot_for,
    is_image,
    mosaic_of,
    name_features,
    peak_of,
    plain_text,
    say_instead,
    series_of,
    show_pixels,
    sparsely,
    value_limits,
)
from vsc.showcase import Effects, Showcase


@STYLE
def training_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """
    Draw the ELBO, l0 and the used latents against the training step.

    Parameters
    ----------
    histories : mapping from model name to rows
        Rows as in ``metrics.jsonl``: "step", "split" ("train" or "valid") and, where a model has them,
        "elbo" (nats per example), "l0" and "used" (latents).

    Returns
    -------
    Figure
        Three panels; one colour and marker per model, validation solid and training dashed. The lower two
        use validation, or training where a history has no validation rows.
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
def code_panels(
    showcase: Showcase, shape: Sequence[int], classes: Sequence[str], examples: int = 6, features: Sequence[str] = ()
) -> Figure:
    """
    Draw one example per row: the input, its code and its reconstruction.

    Parameters
    ----------
    showcase : Showcase
        Of one model.
    shape : sequence of int
        (C, H, W) for images with one or three channels, (M,) for tables.
    classes : sequence of str
        Class names; may be empty.
    examples : int
        At most so many rows.
    features : sequence of str
        Names of a table's columns; used where there are no more than 20.

    Returns
    -------
    Figure
        Latents are aligned down the rows and share one scale. A latent that is off is a grey dot on the zero
        line, never a bar.
    """
    n, J = min(examples, len(showcase.x)), showcase.code.shape[1]
    image = is_image(shape)
    side, margin = ((1.0, 0.86), 0.5) if image else ((2.1, 0.86), 0.75)
    width = float(np.clip(0.3 * J, 2.2, WIDTH - 2 * side[0] - margin - 1.25))
    foot = 0.5 if image else foot_for(features, shape)
    figure = Figure(figsize=(width + 2 * side[0] + margin + 1.25, 1.14 * n + foot + 0.1))
    limits, peak = value_limits(showcase.x), peak_of(showcase.code[:n])
    for i in range(n):
        last, bottom = i == n - 1, foot + 1.14 * (n - 1 - i)
        left = axes_at(figure, margin, bottom, *side)
        middle = axes_at(figure, margin + side[0] + 0.55, bottom, width, side[1])
        right = axes_at(figure, margin + side[0] + width + 1.1, bottom, *side)
        draw_example(left, showcase.x[i], shape, limits, INK)
        draw_example(right, showcase.reconstruction[i], shape, limits, CODE, showcase.x[i])
        code_bars(middle, showcase.code[i], peak, width)
        middle.set_title(f"{np.count_nonzero(showcase.code[i])} of {J} active", loc="right", fontsize=8, color=INK)
        left.set_ylabel(class_label(showcase.label, i, classes) + ("" if image else "\nvalue"))
        right.set_ylabel("" if image else "value")
        if i == 0:
            left.set_title("input")
            middle.set_title(code_title(showcase, width))
            right.set_title("reconstruction" + ("" if image else " (grey: input)"))
        for axes, name in ((left, "feature index"), (middle, "latent index"), (right, "feature index")):
            axes.tick_params(labelbottom=last)
            if last and (axes is middle or not image):
                axes.set_xlabel(name)
        if not image:
            name_features(left, features, shape)
            name_features(right, features, shape)
    return figure


@STYLE
def class_heatmap(matrix: np.ndarray, classes: Sequence[str], quantity: str) -> Figure:
    """
    Draw a class by latent matrix.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (C, J)
        One row per class, or one row for all the data.
    classes : sequence of str
        The rows' names; where their number differs from C, rows are numbered (or called "all data" if C = 1).
    quantity : str
        "mean code" (diverging colours around 0) or "spike probability" (sequential, 0 to 1).

    Returns
    -------
    Figure
        With a labelled colour bar; latents keep their order.

    Raises
    ------
    ValueError
        If the quantity is neither of the two.
    """
    if quantity not in ("mean code", "spike probability"):
        raise ValueError(f"unknown quantity {quantity!r}; one of 'mean code', 'spike probability'")
    C, J = matrix.shape
    names = list(classes) if len(classes) == C else ["all data"] if C == 1 else [str(c) for c in range(C)]
    names = [plain_text(name, 16) for name in names]
    left = 0.65 + 0.075 * max(map(len, names))
    width = float(np.clip(0.3 * J, 1.6, WIDTH - left - 1.2))
    height = float(np.clip(0.22 * C, 1.15, 5.2))  # the colour bar's label needs an inch
    figure = Figure(figsize=(left + width + 1.2, height + 0.75))
    axes, bar = (
        axes_at(figure, left, 0.5, width, height),
        axes_at(figure, left + width + 0.18, 0.5, 0.13, height),
    )
    signed = quantity == "mean code"
    high = peak_of(matrix) if signed else 1.0
    image = axes.imshow(
        matrix,
        aspect="auto",
        interpolation="nearest",
        cmap="RdBu_r" if signed else "Blues",
        vmin=-high if signed else 0.0,
        vmax=high,
    )
    every = int(np.ceil(0.16 * C / height))  # a label needs 0.16 inches
    axes.set_yticks(range(0, C, every), names[::every])
    axes.set(xlabel="latent index", ylabel="class" if C > 1 else "")
    count_ticks(axes, J)
    axes.tick_params(length=2)
    axes.spines[["top", "right"]].set_visible(True)
    figure.colorbar(image, cax=bar, ticks=MaxNLocator(4)).set_label(quantity)
    bar.tick_params(length=2)
    return figure


@STYLE
def effects(effects: Effects, shape: Sequence[int], features: Sequence[str] = ()) -> Figure:
    """
    Draw what each latent alone does to the decoder's output.

    Parameters
    ----------
    effects : Effects
        Of at least one latent.
    shape : sequence of int
        (C, H, W) for images with one or three channels, (M,) for tables.
    features : sequence of str
        Names of a table's columns; may be empty.

    Returns
    -------
    Figure
        Images: one difference image per latent (the mean over colour channels). Tables: a heat map, latents
        down and columns across. One colour scale, centred on zero, for all.

    Raises
    ------
    ValueError
        If there is no latent to draw.
    """
    if not len(effects.latent):
        raise ValueError("no latent is in use, so there is no effect to draw")
    return _effect_images(effects, shape) if is_image(shape) else _effect_table(effects, features)


def _effect_images(effects: Effects, shape: Sequence[int]) -> Figure:
    K, (_, H, W) = len(effects.latent), shape
    images = effects.change.reshape(K, *shape).mean(1)
    rows, cell = -(-K // 8), 1.02
    columns = -(-K // rows)
    height, top = cell * min(H / W, 1.5), 0.52  # three lines of words above each
    figure = Figure(figsize=(max(columns * (cell + 0.16) + 0.95, 2.4), rows * (height + top + 0.08)))
    high = peak_of(images)
    shown = None
    for k, (image, words) in enumerate(zip(images, _effect_labels(effects, "\n"), strict=True)):
        row, column = divmod(k, columns)
        bottom = 0.08 + (rows - 1 - row) * (height + top + 0.08)
        axes = axes_at(figure, 0.08 + column * (cell + 0.16), bottom, cell, height)
        shown = axes.imshow(image, cmap="RdBu_r", vmin=-high, vmax=high, interpolation="nearest", aspect="auto")
        axes.set_title(words, fontsize=7.5, color=INK, pad=3, linespacing=1.05)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="#cccccc")
    tall = min(rows * (height + top + 0.08) - 0.2, 2.6)
    bar = axes_at(figure, columns * (cell + 0.16) + 0.12, figure.get_figheight() - tall - 0.1, 0.13, tall)
    _effect_bar(figure, shown, bar, "change of the output")
    return figure


def _effect_table(effects: Effects, features: Sequence[str]) -> Figure:
    K, M = effects.change.shape
    rows = _effect_labels(effects, " · ")
    named = feature_names(features, M, most=40, longest=24)
    foot = 0.38 + (0.068 * max(map(len, named)) if named else 0.12)
    left = 0.3 + 0.066 * max(map(len, rows))
    width = float(np.clip(0.36 * M, 1.6, WIDTH - left - 1.2))
    height = max(0.24 * K, 1.5)  # the colour bar's label needs as much
    figure = Figure(figsize=(left + width + 1.2, height + foot + 0.12))
    axes = axes_at(figure, left, foot, width, height)
    bar = axes_at(figure, left + width + 0.18, foot + height - min(height, 3.0), 0.13, min(height, 3.0))
    high = peak_of(effects.change)
    image = axes.imshow(effects.change, aspect="auto", interpolation="nearest", cmap="RdBu_r", vmin=-high, vmax=high)
    axes.set_yticks(range(K), rows)
    if named:
        axes.set_xticks(range(M), named, rotation=90)
    else:
        count_ticks(axes, M)
    axes.set(xlabel="feature" if named else "feature index")
    axes.tick_params(length=2)
    axes.spines[["top", "right"]].set_visible(True)
    if K > 1:  # a line between the latents: rows are read across
        axes.hlines(np.arange(K - 1) + 0.5, -0.5, M - 0.5, color="white", linewidth=1.2)
        axes.set(xlim=(-0.5, M - 0.5), ylim=(K - 0.5, -0.5))
    _effect_bar(figure, image, bar, "change of the column\n(model units)")
    return figure


def _effect_labels(effects: Effects, between: str) -> list[str]:
    return [
        between.join(
            (
                f"latent {latent}",
                f"on for {100 * rate:.0f} %",
                f"set to {round(float(value), 1) + 0.0:.1f}".replace("-", "−"),
            )
        )
        for latent, rate, value in zip(effects.latent, effects.rate, effects.value, strict=True)
    ]


def _effect_bar(figure: Figure, image: Any, bar: Axes, label: str) -> None:
    figure.colorbar(image, cax=bar, ticks=MaxNLocator(4)).set_label(label)
    bar.tick_params(length=2)


@STYLE
def latent_grid(images: np.ndarray, shape: Sequence[int]) -> Figure:
    """
    Draw the decoded plane of a model with two latents.

    Parameters
    ----------
    images : numpy.ndarray, shape (100, M)
        Decoded 10 x 10 grid over (-2, 2)^2, row by row; z_1 grows along a row, z_2 from row to row.
    shape : sequence of int
        (C, H, W) or (M,).

    Returns
    -------
    Figure
        z_1 to the right, z_2 upwards.
    """
    rows = images.reshape(10, 10, -1)[::-1]
    figure = Figure(figsize=(6.2, 6.2))
    axes, limits = axes_at(figure, 0.6, 0.55, 5.4, 5.4), value_limits(images)
    step = 4 / 9
    if is_image(shape):
        half = 2 + step / 2
        picture = mosaic_of(rows, shape, limits)
        show_pixels(axes, picture, extent=(-half, half, -half, half), aspect="auto")
    else:
        M, (low, high) = images.shape[1], limits
        across = np.linspace(-0.42, 0.42, max(M, 2)) * step
        up = np.clip((rows[::-1] - low) / (high - low), 0, 1) * 0.8 * step - 0.4 * step
        z = np.linspace(-2, 2, 10)
        lines = [
            np.stack([z[c] + across, z[r] + np.broadcast_to(up[r, c], across.shape)], 1)
            for r in range(10)
            for c in range(10)
        ]
        axes.add_collection(LineCollection(lines, colors=CODE, linewidths=1.0))
        axes.set(xlim=(-2.25, 2.25), ylim=(-2.25, 2.25))
        axes.set_title(f"in each cell: the features from left to right, values {low:.3g} to {high:.3g}")
    axes.set(xlabel="$z_1$ (latent index 0)", ylabel="$z_2$ (latent index 1)")
    axes.set_xticks(range(-2, 3))
    axes.set_yticks(range(-2, 3))
    return figure


@STYLE
def denoising(
    showcases: Sequence[Showcase], names: Sequence[str], shape: Sequence[int], features: Sequence[str] = ()
) -> Figure:
    """
    Draw clean inputs, the same with noise, and what each model makes of the noisy ones.

    Parameters
    ----------
    showcases : sequence of Showcase
        One per model, of the same examples and the same noise (the first one's are drawn).
    names : sequence of str
        The models' names.
    shape : sequence of int
        (C, H, W) or (M,).
    features : sequence of str
        Names of a table's columns; used where there are no more than 20.

    Returns
    -------
    Figure
        One column per example; rows named at the left.
    """
    rows = [showcases[0].x, showcases[0].noisy, *(s.denoised for s in showcases)]
    labels = ["clean input", "noisy input", *(plain_text(name, 20) for name in names)]
    limits = value_limits(showcases[0].x)
    columns = min(len(showcases[0].x), 8 if is_image(shape) else 4)
    left = 0.35 + 0.078 * max(map(len, labels))
    if is_image(shape):
        _, H, W = shape
        cell = min(1.0, (WIDTH - left - 0.2) / columns / (W / H))
        size = columns * cell * W / H, len(rows) * cell
        figure = Figure(figsize=(left + size[0] + 0.2, size[1] + 0.6))
        axes = axes_at(figure, left, 0.5, *size)
        picture = mosaic_of(np.stack([row[:columns] for row in rows]), shape, limits)
        extent = (0.5, columns + 0.5, len(rows) + 0.5, 0.5)
        show_pixels(axes, picture, extent=extent, aspect="auto")
        axes.set_xticks(range(1, columns + 1))
        axes.set_yticks(range(1, len(rows) + 1), labels, fontsize=9, color=INK)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="held-out example")
        return figure
    width = (WIDTH - left - 0.7) / columns - 0.15
    foot = foot_for(features, shape)
    figure = Figure(figsize=(WIDTH, 1.05 * len(rows) + foot + 0.3))
    for r, (row, label) in enumerate(zip(rows, labels, strict=True)):
        bottom = foot + 1.05 * (len(rows) - 1 - r)
        figure.text(0.1 / WIDTH, (bottom + 0.42) / figure.get_figheight(), label, va="center", color=INK)
        for c in range(columns):
            axes = axes_at(figure, left + 0.6 + c * (width + 0.15), bottom, width, 0.85)
            draw_example(axes, row[c], shape, limits, INK if r < 2 else CODE, rows[0][c] if r else None)
            axes.tick_params(labelbottom=r == len(rows) - 1, labelleft=c == 0)
            if r == 0:
                axes.set_title(f"example {c + 1}")
            if r == len(rows) - 1:
                axes.set_xlabel("feature index")
            if c == 0:
                axes.set_ylabel("value")
            name_features(axes, features, shape)
    return figure


@STYLE
def sample_grid(images: np.ndarray, shape: Sequence[int]) -> Figure:
    """
    Draw images in a grid as square as their number allows, row by row.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, M)
        Images in model units.
    shape : sequence of int
        (C, H, W).

    Returns
    -------
    Figure
        Without axes; the places that are left over stay empty.
    """
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    limits = value_limits(images)
    cells = np.full((rows * columns, images.shape[1]), limits[1])
    cells[: len(images)] = images
    _, H, W = shape
    figure = Figure(figsize=(6.0, 6.0 * rows * H / (columns * W)))
    axes = figure.add_axes((0, 0, 1, 1))
    show_pixels(axes, mosaic_of(cells.reshape(rows, columns, -1), shape, limits), aspect="auto")
    axes.set_axis_off()
    return figure


@STYLE
def front(points: Mapping[str, ArrayLike], levels: Mapping[str, float] | None = None) -> Figure:
    """
    Draw the bound against the sparsity that it is reached with.

    Parameters
    ----------
    points : mapping from name to array_like, shape (K, 2)
        l0 (latents per example) and ELBO (nats per example) of the K settings of one family.
    levels : mapping from name to float, optional
        ELBO of dense models, drawn as lines, in nats per example.

    Returns
    -------
    Figure
        One panel; a colour, a marker and a thin line per family.
    """
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
