"""A .csv or .tsv file as numbers, labels and column names; a cell that does not fit is an error that says where."""

import csv
import gzip
import math
import re
import zlib
from array import array
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsc.arrays import check_distinct
from vsc.data.checks import check_length, check_unpacked
from vsc.errors import UsageError, listed, short

LABEL_NAMES = ("label", "class", "target", "y")
DELIMITERS = ",;\t"
LINE = 2**24
"""Most characters of a line."""
FEW = 20
"""Up to so many different whole numbers are classes in any file; in a large one, the square root of its rows."""
_TRUTH = {"true": 1.0, "false": 0.0}
"""Cells that pandas, R and spreadsheets write of what is true or not."""
_BLANK = ("", "?", "na", "n/a", "nan", "null", "none", "<na>")


class Table(NamedTuple):
    """
    What a table holds.

    The numeric columns (N, M), true as 1 and false as 0; labels (N,) as integers if all are, else as strings; the names
    of the M columns, none without a header; apart, a column (N,) that was taken for labels by its name but is
    continuous, neither learned from nor probed; and notes on how the file was read.
    """

    x: NDArray[np.float64]
    y: NDArray[Any] | None
    features: tuple[str, ...]
    apart: dict[str, NDArray[np.float64]]
    notes: tuple[str, ...]


def read_csv(path: Path, label: str | None = None) -> Table:
    """
    Read a table in UTF-8, plain or .gz.

    The first row is a header if one of its cells is called label, class, target or y, if none of its cells is a number,
    or if it counts: 0, 1, 2 as pandas writes it, or years. Cells are parted by commas, semicolons or tabs, whichever
    the first line has most of. `label` is the name of the column of classes, or its number, from 1, in a file without a
    header; `none` if there is none. By default it is the column called label, class, target or y; if that holds
    continuous numbers, it is kept apart. Complaints name all columns that are unsuitable.
    """
    try:
        lines = _lines(path)
        first = next(lines, "")
        rows = csv.reader(chain([first], lines), delimiter=max(DELIMITERS, key=first.count))
        return _read(_numbered(rows), label)
    except UnicodeDecodeError as error:
        raise UsageError("not a text file in UTF-8; save it again as CSV in UTF-8") from error
    except (csv.Error, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"damaged ({error}); save it again as CSV") from error


def _lines(path: Path) -> Iterator[str]:
    zipped, size, read = path.suffix.lower() == ".gz", path.stat().st_size, 0
    with (gzip.open if zipped else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
        while line := file.readline(LINE):
            read += len(line)
            if len(line) == LINE:
                raise UsageError(f"a line has more than {LINE} characters; save a row on each line")
            if zipped:
                check_unpacked(read, size)
            yield line


def _numbered(rows: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a csv.reader that are not empty, with the line on which each ends."""
    for row in rows:
        if any(cell.strip() for cell in row) or len(row) > 1:
            yield rows.line_num, [cell.strip() for cell in row]


def _read(rows: Iterator[tuple[int, list[str]]], label: str | None) -> Table:
    first, second = next(rows, None), next(rows, None)
    if first is None:
        raise UsageError("the file is empty")
    header = _is_header(first[1], second[1] if second else [], label)
    names, notes = first[1] if header else [], []
    if header and all(map(_is_number, names)):
        notes.append(f"the first row ({', '.join(names[:3])}{', ...' * (len(names) > 3)}) is taken for column names")
    _check_names(names)
    columns = names or [str(i + 1) for i in range(len(first[1]))]
    place = _label_column(names, columns, label)
    x, labels = _cells(chain([] if header else [first], [second] if second else [], rows), columns, place)
    features = tuple(name for i, name in enumerate(columns) if i != place) if header else ()
    if place is None:
        return Table(x, None, features, {}, tuple(notes))
    if label is None and (found := _continuous(labels)) is not None:
        notes.append(
            f"column {short(columns[place])} holds {len(np.unique(found))} different numbers: it is kept apart; "
            "--label none makes it a feature, --label NAME says which column holds classes"
        )
        return Table(x, None, features, {columns[place]: found}, tuple(notes))
    return Table(x, _as_labels(labels), features, {}, tuple(notes))


def _is_header(row: list[str], second: list[str], label: str | None) -> bool:
    named = label is not None and not _is_number(label) and label in row
    if named or any(map(_is_label, row)) or not any(map(_is_number, row)):
        return True
    if len(row) > 1 and not row[0]:  # the index, as pandas writes it, has no name
        row, second = row[1:], second[1:]
    few = len(row) < 3  # so short a row may well be data
    if not _counts(row) or (few and row != ["0", "1"][: len(row)]):
        return False
    return not any(map(_is_whole, second)) if few else not _counts(second)


def _counts(row: list[str]) -> bool:
    """Say whether a row is whole numbers, each one more than the one before."""
    return all(map(_is_whole, row)) and all(int(b) == int(a) + 1 for a, b in pairwise(row))


def _check_names(names: list[str]) -> None:
    if "" in names:
        where = names.index("") + 1
        raise UsageError(f"column {where} has no name; name it, or remove it if it only numbers the rows")
    check_length(max(map(len, names), default=0), "names of columns")
    check_distinct(names, "the header")


def _label_column(names: list[str], columns: list[str], label: str | None) -> int | None:
    if label is not None and label in columns:
        return columns.index(label)
    if label == "none":
        return None
    if label is not None:
        raise UsageError(f"no column {short(label)} for the labels; the columns are {listed(columns)}")
    found = [i for i, name in enumerate(names) if _is_label(name)]
    if len(found) > 1:
        both = f"columns {names[found[0]]!r} and {names[found[1]]!r} could both be the labels"
        raise UsageError(f"{both}; say which with --label, or rename one")
    return found[0] if found else None


def _cells(
    rows: Iterator[tuple[int, list[str]]], columns: list[str], label: int | None
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the numbers (N, M) and the labels of all rows."""
    values, labels, bad = array("d"), [], _Unsuitable(columns, label)
    for line, row in rows:
        if len(row) != len(columns):
            raise UsageError(f"row {line} has {len(row)} cells where the first row has {len(columns)}")
        cells = row if label is None else row[:label] + row[label + 1 :]
        numbers: list[float] = []
        try:
            numbers = [_number(cell) for cell in cells]
            fits = all(map(math.isfinite, numbers)) and (label is None or row[label]) and "_" not in "".join(cells)
        except ValueError:
            fits = False
        if not fits:
            bad.note(line, row)
        elif not bad.found:
            values.extend(numbers)
        if label is not None:
            check_length(len(row[label]), f"row {line}, the label")
            labels.append(row[label])
    bad.refuse()
    width = len(columns) - (label is not None)
    return np.array(values, dtype=np.float64).reshape(len(values) // width if width else len(labels), width), labels


class _Unsuitable:
    """The cells that cannot be used, column by column, so that all columns are told of at once."""

    def __init__(self, columns: list[str], label: int | None):
        self.columns, self.label = columns, label
        self.found: dict[str, dict[int, tuple[int, str]]] = {}  # what is wrong -> column -> its first line and cell

    def note(self, line: int, row: list[str]) -> None:
        for i, cell in enumerate(row):
            if not cell or (i != self.label and cell.lower() in _BLANK):  # a class may well be called "none" or "NA"
                kind = "blank"
            elif i != self.label and not _is_number(cell):
                kind = "not numeric"
            elif i != self.label and not math.isfinite(_number(cell)):
                kind = "infinite"
            else:
                continue
            self.found.setdefault(kind, {}).setdefault(i, (line, cell))

    def refuse(self) -> None:
        told = []
        for kind, places in self.found.items():
            (line, cell), names = next(iter(places.values())), [self.columns[i] for i in places]
            subject = f"columns {listed(names, 3)} are" if len(names) > 1 else f"column {short(names[0], 30)} is"
            told.append(f"{subject} {kind} ({f'{short(cell, 20)} in ' if cell else ''}row {line})")
        if told:
            todo = "encode, fill or remove; the classes' column is named 'label' or by --label"
            raise UsageError(f"{', '.join(told)}; {todo}")


def _continuous(labels: list[str]) -> NDArray[np.float64] | None:
    """Return the labels as numbers if they are too many different ones to be classes, or not whole; else None."""
    try:
        numbers = np.array([float(label) for label in labels])
    except ValueError:
        return None
    if not np.isfinite(numbers).all():
        return None
    if (numbers == np.round(numbers)).all() and len(np.unique(numbers)) <= max(FEW, math.isqrt(len(numbers))):
        return None
    return numbers


def _as_labels(labels: list[str]) -> NDArray[Any]:
    try:
        return np.array([int(label) for label in labels], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(labels, dtype=str)


def _is_label(name: str) -> bool:
    return name.lower() in LABEL_NAMES


def _is_whole(cell: str) -> bool:
    return re.fullmatch(r"\d{1,9}", cell) is not None


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return "_" not in cell


def _number(cell: str) -> float:
    """Return what a cell says as a number; ValueError if it says none."""
    try:
        return float(cell)
    except ValueError:
        if (truth := _TRUTH.get(cell.lower())) is None:
            raise
        return truth
