"""Numbers and names as the page prints them."""

import math
from collections.abc import Sequence


def number(value: float, spec: str = ".2f") -> str:
    """
    Print a number with a true minus sign; infinity as ∞, not-a-number in words.

    Parameters
    ----------
    value : float
        What to print.
    spec : str
        Format specification.

    Returns
    -------
    str
        "−98.30" for -98.3.
    """
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = format(value, spec).rstrip(".")
    # -0.001 rounds to "-0.00", which reads as a finding
    return text.lstrip("-") if float(text.rstrip("%")) == 0 else text.replace("-", "−")


def count(value: int) -> str:
    """
    Print a whole number with thin spaces between thousands.

    Parameters
    ----------
    value : int
        What to print.

    Returns
    -------
    str
        "12 345".
    """
    return f"{value:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """
    Print a time in the unit that suits it.

    Parameters
    ----------
    seconds : float
        Time in seconds.

    Returns
    -------
    str
        "4.2 s", "3 min 5 s" or "2 h 10 min".
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def shape(sizes: Sequence[int]) -> str:
    """
    Say what one example is.

    Parameters
    ----------
    sizes : sequence of int
        (C, H, W) or (M,).

    Returns
    -------
    str
        "grey images of 28 × 28 pixels", "colour images of 32 × 32 pixels" or "rows of 12 features".
    """
    if len(sizes) == 3 and sizes[0] in (1, 3):
        return f"{'grey' if sizes[0] == 1 else 'colour'} images of {sizes[1]} × {sizes[2]} pixels"
    return f"rows of {math.prod(sizes)} features"


def listing(items: Sequence[str]) -> str:
    """
    Join items as prose does.

    Parameters
    ----------
    items : sequence of str
        What to join.

    Returns
    -------
    str
        "a", "a and b" or "a, b and c".
    """
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def labels(names: Sequence[str], titles: Sequence[str]) -> list[str]:
    """
    Give every model a name of its own.

    Parameters
    ----------
    names, titles : sequence of str
        Short names and titles, one each per model.

    Returns
    -------
    list of str
        The titles; where two are the same, with the short name, and a number if that is not enough.
    """
    out = [t if titles.count(t) == 1 else f"{t} ({n})" for n, t in zip(names, titles, strict=True)]
    return [x if out.count(x) == 1 else f"{x} #{1 + out[:i].count(x)}" for i, x in enumerate(out)]
