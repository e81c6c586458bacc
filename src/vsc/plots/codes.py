"""Codes of a trained model and what latents do: arrays in, matplotlib ``Figure`` out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vsc.measure.showcase import Showcase
from vsc.plots.drawing import (
    CODE,
    INK,
    STYLE,
    WIDTH,
    axes_at,
    class_label,
    code_bars,
    code_title,
    count_ticks,
    draw_example,
    feature_names,
    foot_for,
    is_image,
    name_features,
    peak_of,
    plain_text,
    show_difference,
    value_limits,
)


@STYLE
def code_panels(
    showcase: Showcase, shape: Sequence[int], classes: Sequence[str], examples: int = 6, features: Sequence[str] = ()
) -> Figure:
    """
    Draw one example of a `showcase` per row, at most so many `examples`: the input, its code and its reconstruction.

    Latents are aligned down the rows and share one scale. A latent that is off is a grey dot on the zero line, never a
    bar.
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
    Draw a `matrix` (C, J), one row per class or one for all the data, with a labelled colour bar.

    Where `classes` are not C names, rows are numbered. The `quantity` is "mean code" (diverging colours around 0) or
    "spike probability" (sequential, 0 to 1); ValueError for any other.
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
    axes = axes_at(figure, left, 0.5, width, height)
    bar = axes_at(figure, left + width + 0.18, 0.5, 0.13, height)
    signed = quantity == "mean code"
    high = peak_of(matrix) if signed else 1.0
    colours = {"cmap": "RdBu_r", "vmin": -high} if signed else {"cmap": "Blues", "vmin": 0.0}
    image = axes.imshow(matrix, aspect="auto", interpolation="nearest", vmax=high, **colours)
    every = int(np.ceil(0.16 * C / height))  # a label needs 0.16 inches
    axes.set_yticks(range(0, C, every), names[::every])
    axes.set(xlabel="latent index", ylabel="class" if C > 1 else "")
    count_ticks(axes, J)
    axes.tick_params(length=2)
    axes.spines[["top", "right"]].set_visible(True)
    _labelled_bar(figure, image, bar, quantity)
    return figure


@STYLE
def effects(
    change: np.ndarray, labels: Sequence[Sequence[str]], shape: Sequence[int], features: Sequence[str] = ()
) -> Figure:
    """
    Draw the `change` (K, M) of the output that each of K latents makes, with `labels`: up to three phrases for each.

    Images: one difference image per latent (the mean over colour channels). Tables: a heat map, latents down and
    columns across. One colour scale, centred on zero, for all. ValueError if there is no latent to draw.
    """
    if not len(change):
        raise ValueError("no latent is in use, so there is no effect to draw")
    if is_image(shape):
        return _effect_images(change, ["\n".join(words) for words in labels], shape)
    return _effect_table(change, [" · ".join(words) for words in labels], features)


def _effect_images(change: np.ndarray, labels: Sequence[str], shape: Sequence[int]) -> Figure:
    K, (_, H, W) = len(change), shape
    images = change.reshape(K, *shape).mean(1)
    rows, cell = -(-K // 8), 1.02
    columns = -(-K // rows)
    height, top = cell * min(H / W, 1.5), 0.52  # three lines of words above each
    figure = Figure(figsize=(max(columns * (cell + 0.16) + 0.95, 2.4), rows * (height + top + 0.08)))
    high = peak_of(images)
    shown = None
    for k, (image, words) in enumerate(zip(images, labels, strict=True)):
        row, column = divmod(k, columns)
        bottom = 0.08 + (rows - 1 - row) * (height + top + 0.08)
        axes = axes_at(figure, 0.08 + column * (cell + 0.16), bottom, cell, height)
        shown = show_difference(axes, image, high)
        axes.set_title(words, fontsize=7.5, color=INK, pad=3, linespacing=1.05)
    tall = min(rows * (height + top + 0.08) - 0.2, 2.6)
    bar = axes_at(figure, columns * (cell + 0.16) + 0.12, figure.get_figheight() - tall - 0.1, 0.13, tall)
    _labelled_bar(figure, shown, bar, "change of the output")
    return figure


@STYLE
def effects_in_runs(change: np.ndarray, labels: Sequence[Sequence[str]], shape: Sequence[int]) -> Figure:
    """
    Draw difference images of the `change` (K, S, M) that each of K latents makes in S runs, beside each other.

    The `labels` are what stands above each picture, K times S. One colour scale, centred on zero, for all.
    """
    K, S, _ = change.shape
    images = change.reshape(K, S, *shape).mean(2)
    cell, gap, top = 0.82, 0.32, 0.2
    tall, block = cell * min(shape[1] / shape[2], 1.5), S * (cell + 0.06) + gap
    across = min(max(int((WIDTH - 0.9) / block), 1), K)
    rows = -(-K // across)
    figure = Figure(figsize=(max(across * block + 0.9, 2.4), max(rows * (tall + top + 0.1), 1.6)))
    high, shown = peak_of(images), None
    for k in range(K):
        row, column = divmod(k, across)
        bottom = figure.get_figheight() - (row + 1) * (tall + top + 0.1) + 0.1
        for s in range(S):
            axes = axes_at(figure, 0.08 + column * block + s * (cell + 0.06), bottom, cell, tall)
            shown = show_difference(axes, images[k, s], high)
            axes.set_title(labels[k][s], fontsize=7.5, color=INK, pad=2, loc="left")
    high = min(figure.get_figheight() - 0.3, 2.6)
    bar = axes_at(figure, across * block, figure.get_figheight() - high - 0.15, 0.13, high)
    _labelled_bar(figure, shown, bar, "change of the output")
    return figure


def _effect_table(change: np.ndarray, rows: Sequence[str], features: Sequence[str]) -> Figure:
    K, M = change.shape
    named = feature_names(features, M, most=40, longest=24)
    foot = 0.38 + (0.068 * max(map(len, named)) if named else 0.12)
    left = 0.3 + 0.066 * max(map(len, rows))
    width = float(np.clip(0.36 * M, 1.6, WIDTH - left - 1.2))
    height = max(0.24 * K, 1.5)  # the colour bar's label needs as much
    figure = Figure(figsize=(left + width + 1.2, height + foot + 0.12))
    axes = axes_at(figure, left, foot, width, height)
    bar = axes_at(figure, left + width + 0.18, foot + height - min(height, 3.0), 0.13, min(height, 3.0))
    high = peak_of(change)
    image = axes.imshow(change, aspect="auto", interpolation="nearest", cmap="RdBu_r", vmin=-high, vmax=high)
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
    _labelled_bar(figure, image, bar, "change of the column\n(model units)")
    return figure


def _labelled_bar(figure: Figure, image: Any, bar: Axes, label: str) -> None:
    figure.colorbar(image, cax=bar, ticks=MaxNLocator(4)).set_label(label)
    bar.tick_params(length=2)
