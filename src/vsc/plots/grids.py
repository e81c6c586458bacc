"""Grids of images that a trained model draws: arrays in, matplotlib ``Figure`` out."""

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from vsc.measure.showcase import Showcase
from vsc.plots.drawing import (
    CODE,
    INK,
    STYLE,
    WIDTH,
    axes_at,
    draw_example,
    foot_for,
    is_image,
    mosaic_of,
    name_features,
    plain_text,
    show_pixels,
    value_limits,
)


@STYLE
def latent_grid(images: np.ndarray, shape: Sequence[int]) -> Figure:
    """Draw the decoded 10 x 10 grid over (-2, 2)^2 of two latents, (100, M): z_1 to the right, z_2 upwards."""
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
    """Draw clean inputs, the same with noise, and what each of `showcases`, with its name in `names`, makes of it."""
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
    """Draw images (n, M) of (C, H, W) in a grid as square as their number allows, row by row."""
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
