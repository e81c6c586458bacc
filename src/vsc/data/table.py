"""A .csv file as numbers, labels and column names; a cell that does not fit is an error that says where."""

import csv
import math
from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsc.errors import UsageError

LABEL_NAMES = ("label", "class", "target", "y")
DELIMITERS = ",;\t"
_BLANK = ("", "?", "na", "n/a", "nan", "null", "none")


class Table(NamedTuple):
    """
    What a .csv file holds.

    Attributes
    ----------
    x : numpy.ndarray, shape (N, M), float64
        The numeric columns.
    y : numpy.ndarray or None, shape (N,)
        The label column, as integers if all labels are, else as strings.
    features : tuple of str
        Names of the M columns; empty if the file has no header.
    """

    x: NDArray[np.float64]
    y: NDArray | None
    features: tuple[str, ...]


def read_csv(path: Path) -> Table:
    """
    Read a table.

    The first row is a header if one of its cells is called label, class, target or y, or if none of its cells
    is a number. Cells are parted by commas, semicolons or tabs, whichever the first line has most of.

    Parameters
    ----------
    path : pathlib.Path
        The file, in UTF-8.

    Returns
    -------
    Table
        Its columns.

    Raises
    ------
    UsageError
        If the file is not text, has no rows, rows of unequal length, a column without a name, two label
        columns, a blank cell, or a column other than the labels that is not numeric.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter=max(DELIMITERS, key=first.count))
            return _read(_numbered(rows))
    except UnicodeDecodeError as error:
        raise UsageError("not a text file in UTF-8; save it again as CSV in UTF-8") from error
    except csv.Error as error:
        raise UsageError(f"damaged ({error}); save it again as CSV") from error


def _numbered(rows: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a csv.reader that are not empty, with the line on which each ends."""
    for row in rows:
        if any(cell.strip() for cell in row) or len(row) > 1:
            yield rows.line_num, [cell.strip() for cell in row]


def _read(rows: Iterator[tuple[int, list[str]]]) -> Table:
    first = next(rows, None)
    if first is None:
        raise UsageError("the file is empty")
    names = _header(first[1])
    columns = names or [str(i + 1) for i in range(len(first[1]))]
    label = _label_column(names)
    values, labels, count = array("d"), [], 0
    for line, row in rows if names else chain([first], rows):
        if len(row) != len(columns):
            raise UsageError(f"row {line} has {len(row)} cells where the first row has {len(columns)}")
        cells = row if label is None else row[:label] + row[label + 1 :]
        try:
            numbers = [float(cell) for cell in cells]
        except ValueError:
            raise _unsuitable(line, row, columns, label) from None
        if not all(map(math.isfinite, numbers)) or (label is not None and not row[label]):
            raise _unsuitable(line, row, columns, label)
        values.extend(numbers)
        if label is not None:
            labels.append(row[label])
        count += 1
    features = tuple(name for i, name in enumerate(columns) if i != label)
    x = np.array(values, dtype=np.float64).reshape(count, len(features))
    return Table(x, None if label is None else _as_labels(labels), features if names else ())


def _header(row: list[str]) -> list[str]:
    """Return the column names if the row holds names, else nothing."""
    if not any(_is_label(cell) for cell in row) and any(_is_number(cell) for cell in row):
        return []
    if "" in row:
        where = row.index("") + 1
        raise UsageError(f"column {where} has no name; name it, or remove it if it only numbers the rows")
    return row


def _label_column(names: list[str]) -> int | None:
    found = [i for i, name in enumerate(names) if _is_label(name)]
    if len(found) > 1:
        raise UsageError(f"columns {names[found[0]]!r} and {names[found[1]]!r} could both be the labels; rename one")
    return found[0] if found else None


def _unsuitable(line: int, row: list[str], columns: list[str], label: int | None) -> UsageError:
    """Say which cell of a row cannot be used, and what to do about it."""
    for i, (cell, column) in enumerate(zip(row, columns, strict=True)):
        if not cell or (i != label and _is_blank(cell)):  # a class may well be called "none" or "NA"
            return UsageError(f"row {line}, column {column!r} is blank or no number; fill it or remove the row")
        if i != label and not _is_number(cell):
            todo = "encode it as numbers, remove it, or name it 'label' if it holds the classes"
            return UsageError(f"column {column!r} is not numeric ({cell!r} in row {line}); {todo}")
        if i != label and not math.isfinite(float(cell)):
            return UsageError(f"row {line}, column {column!r} is infinite; change it or remove the row")
    raise AssertionError("every cell of the row is suitable")


def _as_labels(labels: list[str]) -> NDArray:
    try:
        return np.array([int(label) for label in labels], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(labels, dtype=str)


def _is_label(name: str) -> bool:
    return name.lower() in LABEL_NAMES


def _is_blank(cell: str) -> bool:
    return cell.lower() in _BLANK


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
