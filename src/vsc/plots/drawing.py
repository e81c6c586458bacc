"""The parts that figures share: the style, axes placed in inches, pixels, bars and labels."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from vsc.measure.showcase import Showcase

# Okabe and Ito's colours, told apart with every common colour blindness; a marker each, for print in grey.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
CODE, OFF, INK = PALETTE[0], "#b4b4b4", "#333333"
WIDTH = 10.4  # inches: the width of the report's text at 96 pixels per inch, so that 9 pt looks like 9 pt

STYLE = matplotlib.rc_context(
    {
        "font.size": 9.0,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#777777",
        "axes.linewidth": 0.7,
        "axes.labelcolor": INK,
        "axes.titlecolor": "#111111",
        "xtick.color": "#555555",
        "ytick.color": "#555555",
        "xtick.labelsize": 8.0,
        "ytick.labelsize": 8.0,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "figure.autolayout": False,  # axes are placed in inches; a layout engine would move them, slowly
        "figure.constrained_layout.use": False,
    }
)


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def is_image(shape: Sequence[int]) -> bool:
    """Say whether examples of this shape are drawn as pixels."""
    return len(shape) == 3 and shape[0] in (1, 3)


def plain_text(text: object, longest: int = 40) -> str:
    r"""Return a name that is printed as it is: a $ opens mathematics, a leading _ hides a legend entry."""
    name = str(text)
    name = name if len(name) <= longest else name[: longest - 1] + "…"
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def class_label(label: np.ndarray | None, i: int, classes: Sequence[str]) -> str:
    """Return what stands beside the i-th example: its class, or its number."""
    if label is None:
        return f"example {i + 1}"
    index = int(label[i])
    name = classes[index] if 0 <= index < len(classes) else str(index)
    return plain_text(name if len(name) > 3 else f"class {name}", 14)


def code_title(showcase: Showcase, width: float) -> str:
    """Say what the bars are, as far as there is room for it beside the number of active latents."""
    if showcase.class_gamma is None:
        return "code" if width < 3 else "code: one number per latent"
    return "hard code" if width < 4.15 else "hard code: mu if gamma > 1/2, else exactly 0"


def feature_names(features: Sequence[str], M: int, most: int = 20, longest: int = 16) -> list[str]:
    """Return the columns' names as printed; none where there are too many, or not one for each."""
    return [plain_text(name, longest) for name in features] if len(features) == M <= most else []


def foot_for(features: Sequence[str], shape: Sequence[int]) -> float:
    """Inches below the lowest axes of a table, for the names of its columns and the axis' own."""
    names = feature_names(features, prod(shape))
    return 0.38 + 0.064 * max(map(len, names)) if names else 0.5


def name_features(axes: Axes, features: Sequence[str], shape: Sequence[int]) -> None:
    """Put the columns' names instead of their indices, if there are any and they fit."""
    if names := feature_names(features, prod(shape)):
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7.5 if len(names) <= 14 else 6.5)
        if axes.get_xlabel():
            axes.set_xlabel("feature")


def count_ticks(axes: Axes, n: int, most: int = 12) -> None:
    """Put at most so many ticks at whole indices 0 .. n - 1."""
    if n <= most // 2:
        axes.set_xticks(range(n))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(most, integer=True))


def say_instead(axes: Axes, text: str) -> None:
    """Put a sentence where there is nothing to draw."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#777777")


def series_of(rows: Sequence[Mapping[str, Any]], split: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and finite values of one quantity on one split."""
    pairs = [(row["step"], row[key]) for row in rows if row.get("split") == split and row.get(key) is not None]
    table = np.array(pairs, dtype=float).reshape(-1, 2)
    table = table[np.isfinite(table).all(1)]
    return table[:, 0], table[:, 1]


def sparsely(curve: tuple[np.ndarray, np.ndarray]) -> int:
    """Say which of a curve's points get a marker: about ten."""
    return max(1, len(curve[0]) // 10)


def cut_low_values(axes: Axes) -> bool:
    """Let the axis begin where the curves are but for their start and a dip; say whether that hides anything."""
    curves = [np.asarray(line.get_xydata()) for line in axes.lines]
    curves = [curve for curve in curves if len(curve)]
    if not curves:
        return False
    values = np.concatenate([curve[:, 1] for curve in curves])
    start = 0.2 * max(curve[:, 0].max() for curve in curves)
    later = [curve[curve[:, 0] >= start, 1] for curve in curves]
    # a tenth of a curve may lie below; where it ends is always shown
    low = min(min(np.quantile(part, 0.1, method="higher"), part[-1]) for part in later if len(part))
    high = values.max()
    span = high - low or 1.0
    seen = values[values >= low - 0.5 * span]  # a third of the axis at most is spent on lower ones
    if len(seen) == len(values):
        return False
    axes.set_ylim(seen.min() - 0.06 * span, high + 0.06 * span)
    return True


def value_limits(values: np.ndarray) -> tuple[float, float]:
    """Return the value range to draw: [0, 1] for data that fill it, else the data's own."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if low >= 0 and 0.5 < high <= 1:  # images of unit norm stay far below 1 and would be drawn black
        return 0.0, 1.0
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def peak_of(values: ArrayLike) -> float:
    """Largest finite absolute value, or 1 where there is none or it is 0."""
    finite = np.abs(np.nan_to_num(np.asarray(values, dtype=float), nan=0.0, posinf=0.0, neginf=0.0))
    return float(finite.max(initial=0.0)) or 1.0


def to_unit(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Scale values to [0, 1] by the limits, clipped; what is not a number becomes 0."""
    return np.clip(np.nan_to_num((values - limits[0]) / (limits[1] - limits[0])), 0, 1)


def mosaic_of(images: np.ndarray, shape: Sequence[int], limits: tuple[float, float]) -> np.ndarray:
    """Put flat images (R, K, M) side by side on white: one imshow instead of R K."""
    R, K = images.shape[:2]
    C, H, W = shape
    gap = max(1, round(0.04 * H))
    cells = np.ones((R, K, C, H + 2 * gap, W + 2 * gap), dtype=np.float32)
    cells[..., gap:-gap, gap:-gap] = to_unit(images, limits).reshape(R, K, C, H, W)
    picture = cells.transpose(0, 3, 1, 4, 2).reshape(R * (H + 2 * gap), K * (W + 2 * gap), C)
    return picture[..., 0] if C == 1 else picture


def show_pixels(axes: Axes, picture: np.ndarray, **place: Any) -> None:
    """Show pixels as they are: smoothing would hide how coarse the data are, and triples the file."""
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest", **place)


def show_difference(axes: Axes, image: np.ndarray, peak: float) -> Any:
    """Show an image of changes: red is more, blue less, `peak` the darkest."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color="#cccccc")
    return axes.imshow(image, cmap="RdBu_r", vmin=-peak, vmax=peak, interpolation="nearest", aspect="auto")


def draw_example(
    axes: Axes,
    values: np.ndarray,
    shape: Sequence[int],
    limits: tuple[float, float],
    colour: str,
    reference: np.ndarray | None = None,
) -> None:
    """Draw one example: an image, or features as stems (lines from 60 on), a grey reference behind them."""
    if is_image(shape):
        picture = to_unit(values, limits).reshape(tuple(shape)).transpose(1, 2, 0)
        show_pixels(axes, picture[..., 0] if shape[0] == 1 else picture)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="#cccccc")
        return
    M, margin = prod(shape), 0.08 * (limits[1] - limits[0])
    index, flat = np.arange(M), values.reshape(-1)
    few = M <= 60
    if reference is not None:
        style = {"marker": "o", "markersize": 5.5, "linestyle": "", "markerfacecolor": "none"} if few else {}
        axes.plot(index, reference.reshape(-1), color=OFF, linewidth=2.0, **style)
    if few:
        axes.vlines(index, 0, flat, color=colour, linewidth=0.8)
        axes.plot(index, flat, color=colour, marker="o", markersize=2.6, linestyle="")
    else:
        axes.plot(index, flat, color=colour, linewidth=0.9)
    axes.axhline(0, color="#cccccc", linewidth=0.7, zorder=0)
    axes.set(xlim=(-0.6, M - 0.4), ylim=(limits[0] - margin, limits[1] + margin))
    count_ticks(axes, M, 5)
    axes.yaxis.set_major_locator(MaxNLocator(3))


def code_bars(axes: Axes, code: np.ndarray, peak: float, width: float) -> None:
    """Draw a bar for each active latent, a grey dot on the zero line for each that is exactly zero."""
    J = len(code)
    index = np.arange(J)
    on = code != 0
    points = width * 72 / J  # one latent's width
    axes.axhline(0, color="#dddddd", linewidth=0.7, zorder=0)
    axes.vlines(index[on], 0, code[on], color=CODE, linewidth=float(np.clip(0.62 * points, 0.8, 16)))
    axes.plot(index[~on], np.zeros(J - on.sum()), ".", color=OFF, markersize=float(np.clip(0.6 * points, 0.8, 4)))
    axes.set(xlim=(-0.7, J - 0.3), ylim=(-1.1 * peak, 1.1 * peak), ylabel="code")
    count_ticks(axes, J)
    axes.yaxis.set_major_locator(MaxNLocator(3))
