"""Numbers and names as the page prints them."""

import math
from collections.abc import Sequence

import numpy as np


def number(value: float, spec: str = ".2f") -> str:
    """Print a number with a true minus sign, "−98.30" for -98.3; infinity as ∞, not-a-number in words."""
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = format(value, spec).rstrip(".")
    # -0.001 rounds to "-0.00", which reads as a finding
    return text.lstrip("-") if float(text.rstrip("%")) == 0 else text.replace("-", "−")


def count(value: int) -> str:
    """Print a whole number with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """Print seconds in the unit that suits them: "4.2 s", "3 min 5 s" or "2 h 10 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def shape(sizes: Sequence[int]) -> str:
    """Say what one example of (C, H, W), (C, L) or (M,) is: "grey images of 28 × 28 pixels", "rows of 12 features"."""
    if len(sizes) == 3 and sizes[0] in (1, 3):
        return f"{'grey' if sizes[0] == 1 else 'colour'} images of {sizes[1]} × {sizes[2]} pixels"
    if len(sizes) == 2:
        return f"signals of {sizes[0]} channel{'' if sizes[0] == 1 else 's'} × {sizes[1]} steps"
    return f"rows of {math.prod(sizes)} features"


def listing(items: Sequence[str]) -> str:
    """Join items as prose does: "a", "a and b" or "a, b and c"."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def labels(names: Sequence[str], titles: Sequence[str]) -> list[str]:
    """Return the titles; where two are the same, with the short name, and a number if that is not enough."""
    out = [t if titles.count(t) == 1 else f"{t} ({n})" for n, t in zip(names, titles, strict=True)]
    return [x if out.count(x) == 1 else f"{x} #{1 + out[:i].count(x)}" for i, x in enumerate(out)]


def measure(value: float) -> str:
    """Print a value of the data, if it is there: four digits, "0.01234", and thin spaces from 10 000 on."""
    if math.isnan(value):
        return "missing"
    if math.isfinite(value) and abs(value) >= 1e4:
        return count(round(value)).replace("-", "−") if abs(value) < 1e9 else number(value, ".3g")
    return number(value, ".4g")


def feature_names(features: Sequence[str], M: int) -> list[str]:
    """Return the names of a table's M columns, or "feature 0" and so on where they are not known."""
    return list(features) if len(features) == M else [f"feature {m}" for m in range(M)]


def largest(change: np.ndarray, most: int) -> list[int]:
    """Return the indices of the largest values in size, the largest first."""
    return np.argsort(-np.abs(np.nan_to_num(change)), kind="stable")[:most].tolist()


def most_changed(change: np.ndarray, features: Sequence[str]) -> str:
    """Name the three columns that change most, with their signs: "changes dose by −2.50, height by +1.00 and ..."."""
    names = feature_names(features, len(change))
    return "changes " + listing([f"{names[m]} by {number(float(change[m]), '+.2f')}" for m in largest(change, 3)])


def most_changed_pixel(change: np.ndarray, shape: Sequence[int]) -> str:
    """Say where in an image (C, H, W) a change (M,) is greatest, and how great it is all over."""
    image = np.nan_to_num(change.reshape(tuple(shape)).mean(0))
    row, column = divmod(int(np.argmax(np.abs(image))), image.shape[1])
    return (
        f"changes row {row}, column {column} most, by {number(float(image[row, column]), '+.2f')} "
        f"(mean size {number(float(np.abs(image).mean()), '.2g')})"
    )
