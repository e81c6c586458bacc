"""What commands say of a table's columns: what each is taken for, and what to type for another reading."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from vsc.errors import listed, short
from vsc.fields import COUNTS, KINDS, Field, parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vsc.data import Dataset

LISTED = 60
"""Columns that are listed one by one."""
MANY = 50
"""Counts from which on a table may well be one of pictures."""
FEW = 20
"""Different whole numbers up to which a column may well be categorical."""


def summary(loaded: "Dataset") -> str:
    """Say in one line what the columns of a table are taken for."""
    counts = Counter(field.likelihood for field in loaded.fields)
    names = {kind: [field.name for field in loaded.fields if field.likelihood == kind] for kind in KINDS}
    told = [f"{counts[k]} {k}" + f" ({listed(names[k], 3)})" * (k != "gaussian") for k in KINDS if counts[k]]
    lost = np.mean([np.isnan(_values(loaded, place)[:, 0]).mean() for _, place in parts(loaded.fields)])
    missing = f"; {lost:.1%} of the values are missing" if lost else ""
    grey = "; if these are grey values: --columns '*=gaussian'" if sum(counts[k] for k in COUNTS) >= MANY else ""
    return f"columns of the table: {', '.join(told)}{missing}{grey}"


def listing(loaded: "Dataset") -> Iterator[str]:
    """Yield a line for each column: what it is taken for, its values, how many are missing, and what else it may be."""
    rows = [("column", "taken for", "values", "missing", "or --columns")]
    for field, place in parts(loaded.fields[:LISTED]):
        x = _values(loaded, place)
        lost = np.isnan(x[:, 0]).mean()
        there = x[~np.isnan(x[:, 0]), 0]
        values = _levels(field) if field.levels else f"{there.min():.4g} to {there.max():.4g}, mean {there.mean():.4g}"
        others = " or ".join(_others(field, there))
        rows.append((short(field.name, 30)[1:-1], field.likelihood, values, f"{lost:.1%}" if lost else "", others))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
    if len(loaded.fields) > LISTED:
        yield f"  ... and {len(loaded.fields) - LISTED} more"
    yield "another reading: --columns NAME=KIND,NAME=KIND (or PATTERN*=KIND); to leave columns out: --drop NAME,NAME"


def _values(loaded: "Dataset", place: slice) -> "NDArray[np.float64]":
    """Return the columns of a field in all parts (N, width)."""
    found = [getattr(loaded, part).x[:, place].double().numpy() for part in ("train", "valid", "test")]
    return np.concatenate(found)


def _levels(field: Field) -> str:
    text = ", ".join(short(level, 20)[1:-1] for level in field.levels[:5])
    return text + (f", ... ({len(field.levels)})" if len(field.levels) > 5 else "")


def _others(field: Field, there: "NDArray[np.float64]") -> list[str]:
    """Return what else a column of numbers may well be."""
    if field.levels:
        return []
    whole, different = bool((there % 1 == 0).all()), len(np.unique(there))
    counts = COUNTS if field.likelihood in COUNTS else () if there.min() < 0 or not whole else ("negative-binomial",)
    classes = ("categorical",) if whole and 2 < different <= min(FEW, len(there) // 3) else ()
    return [kind for kind in ("gaussian", *counts, *classes) if kind != field.likelihood]
