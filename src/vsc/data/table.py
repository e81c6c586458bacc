"""A table of one's own: a file that pandas reads, or a data frame, its labels apart and its columns described."""

import csv
import gzip
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice, pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsc.arrays import as_frame, check_distinct, plain
from vsc.data.asked import Asked
from vsc.data.checks import check_length, check_unpacked
from vsc.errors import UsageError, listed, short
from vsc.fields import Field, describe, expand, texts, wanted
from vsc.files import undamaged

if TYPE_CHECKING:
    from pandas import Series

LABEL_NAMES = ("label", "class", "target", "y")
DELIMITERS = ",;\t|"
MISSING = ["", "?", "#N/A", "<NA>", "<na>", "NaN"]
MISSING += [cell for word in ("na", "n/a", "nan", "null", "none") for cell in (word, word.upper(), word.title())]
"""Cells that hold no value."""
WHOLE = re.compile(r"\d{1,9}").fullmatch
NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)(e[-+]?\d+)?|true|false", re.IGNORECASE).fullmatch
LINE = 2**24
"""Most characters of a table's first line."""
FEW = 20
"""Up to so many different whole numbers are classes in any table; in a large one, the square root of its rows."""


class Table(NamedTuple):
    """
    What a table holds.

    Its values (N, M), as `vsc.fields.expand` has them, NaN where missing; what its columns are; whether they have names
    of their own; labels (N,) as integers if all are, else as strings; apart, a column (N,) that was taken for labels by
    its name but is continuous; names of the rows (N,); notes on how it was read; the data frame, all columns in it; and
    the line of the file that the first row stands in, where it is text.
    """

    x: Any
    fields: tuple[Field, ...]
    named: bool = True
    y: NDArray[Any] | None = None
    apart: Mapping[str, NDArray[np.float64]] = {}
    rows: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()
    frame: Any = None
    first: int = 0


def read_table(path: Path, asked: Asked) -> Table:
    """
    Read a table: .csv or .tsv in UTF-8, plain or .gz; .parquet; .feather or .arrow; or .h5ad.

    The first row of text is a header if one of its cells is called label, class, target or y, if none of its cells is a
    number, if its numbers count (0, 1, 2 as pandas writes them, or years), or if it has text above numbers; else
    columns are called by their number, from 1. Cells are parted by what the first line has most of: comma, semicolon,
    tab or bar. A first column without a name names the rows.
    """
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    try:
        with undamaged():
            return READERS[kind](path, asked)
    except UsageError as error:
        if isinstance(error.__cause__, UnicodeDecodeError):
            raise UsageError("not a text file in UTF-8; save it again as CSV in UTF-8") from error
        if isinstance(error.__cause__, ImportError):
            raise UsageError(f'to read .{kind} files: pip install "variational-sparse-coding[tables]"') from error
        raise


def parted(frame: Any, asked: Asked, grey: bool = False) -> Table:
    """
    Take labels, and columns that are not wanted, off a data frame of any kind, and describe the others.

    Where all of these are uint8 they may be `grey` values, no table: they stay a data frame, without fields.
    """
    frame = as_frame(frame, "the table")
    columns, known = list(frame.columns), bool(asked.fields)
    check_length(max(map(len, columns), default=0), "names of columns")
    if not len(frame):
        raise UsageError("the table has no rows")
    if not known and (lost := [name for name in asked.drop if name not in columns]):
        raise UsageError(f"no column {listed(lost)} to drop; the columns are {listed(columns)}")
    label = _label_column([name for name in columns if name not in asked.drop], asked)
    rest = frame.drop(columns=[name for name in (*asked.drop, label) if name in columns])
    grey = grey and not asked.columns and bool((rest.dtypes == np.uint8).all())
    fields = () if grey else asked.fields or describe(rest, asked.columns)
    rows = None if hasattr(frame.index, "step") else frame.index.to_numpy()  # an index that only counts names nothing
    table = Table(rest if grey else expand(rest, fields), fields, rows=rows, frame=frame)
    return table if label is None else _labelled(table, frame[label], asked)


def matrix(x: Any, names: Sequence[str], asked: Asked, index: Any = None, **labels: Any) -> Table:
    """Describe a matrix (N, M), sparse or not: whole numbers from 0 on are counts, all of them; `labels` go with it."""
    from pandas import DataFrame

    if hasattr(x, "check_format"):
        x.check_format()  # that of a file may point outside, into anything
    x = plain(x).values
    counts = x.dtype.kind in "buif" and bool((x >= 0).all() and (x % 1 == 0).all()) and x.max(initial=0) > 1
    usual = {"*": "negative-binomial"} if counts else {}
    frame = DataFrame(x, index=index, columns=list(names)).assign(**labels)
    return parted(frame, asked._replace(columns=usual | dict(asked.columns)))


def _h5ad(path: Path, asked: Asked) -> Table:
    """Read counts X of cells (rows) and genes; a column of obs may hold classes."""
    import anndata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about formats of its own
        found = anndata.read_h5ad(path)
    label = _label_column(list(map(str, found.obs.columns)), asked)
    labels = {} if label is None else {label: found.obs[label].to_numpy()}
    return matrix(found.X, list(map(str, found.var_names)), asked, found.obs_names, **labels)


def _binary(path: Path, asked: Asked) -> Table:
    import pandas

    return parted((pandas.read_parquet if path.suffix.lower() == ".parquet" else pandas.read_feather)(path), asked)


def _text(path: Path, asked: Asked) -> Table:
    import pandas

    sep, rows = _first_rows(path)
    header = _is_header(rows, asked.label)
    names = rows[0] if header else [str(i + 1) for i in range(len(rows[0]))]
    if "" in names[1:] or names == [""]:
        raise UsageError(f"column {len(names) - names[::-1].index('')} has no name; name or remove it")
    check_distinct(names, "the header")
    if len(longest := max(rows, key=len)) > len(names):
        raise UsageError(
            f"a row has {len(longest)} cells ({listed(longest, 2)}), the first {len(names)}; name all there"
        )
    label = _label_column(names, asked)
    comma = sep != "," and any(re.fullmatch(r"-?\d+,\d+", cell) for row in rows for cell in row)
    as_text = [name for name, kind in wanted(asked.columns, names).items() if kind == "categorical"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)  # of rows that are longer than the header
        frame = pandas.read_csv(
            path,
            sep=sep,
            decimal="," if comma else ".",
            header=0 if header else None,
            names=names,
            index_col=False,
            skipinitialspace=True,
            encoding="utf-8-sig",
            keep_default_na=False,
            na_values={name: MISSING for name in names if name != label},  # a class may well be called "none" or "NA"
            dtype=dict.fromkeys(as_text if label is None else [*as_text, label], str),
            low_memory=False,
        )
    for name in frame.select_dtypes("str"):
        frame[name] = frame[name].str.strip()
    frame.index = pandas.RangeIndex(1 + header, 1 + header + len(frame))  # complaints name a line of the file
    if names[0] == "":
        frame = frame.set_index("")
        if not frame.index.is_unique:
            raise UsageError("column 1 has no name, and does not name the rows; name or remove it")
    table = parted(frame, asked)
    told = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
    notes = [f"the first row ({told}) is taken for column names"] * (header and any(map(NUMBER, names)))
    return table._replace(named=header, notes=(*notes, *table.notes), first=1 + header)


READERS: dict[str, Callable[[Path, Asked], Table]] = {
    "csv": _text,
    "tsv": _text,
    "parquet": _binary,
    "feather": _binary,
    "arrow": _binary,
    "h5ad": _h5ad,
}


def _first_rows(path: Path) -> tuple[str, list[list[str]]]:
    """Return what parts cells, and those of up to 100 rows of text; refuse a .gz file that unpacks to too much."""
    opened, read = gzip.open if path.suffix.lower() == ".gz" else open, 0
    with opened(path) as file:
        while opened is not open and (block := file.read(2**20)):
            check_unpacked(read := read + len(block), path.stat().st_size)
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        first = next((line for line in iter(lambda: file.readline(LINE), "") if line.strip()), "")
        if len(first) in (0, LINE):
            raise UsageError(f"the first line is longer than {LINE} characters" if first else "the file is empty")
        sep = max(DELIMITERS, key=first.count)
        reader = csv.reader(chain([first], file), delimiter=sep, skipinitialspace=True)
        return sep, [[cell.strip() for cell in row] for row in islice(reader, 100) if row]


def _is_header(rows: list[list[str]], label: str | None) -> bool:
    row, second = rows[0], rows[1] if len(rows) > 1 else []
    named = label is not None and not NUMBER(label) and label in row
    if named or any(map(_is_label, row)) or not any(map(NUMBER, row)):
        return True
    for name, *cells in zip(*rows, strict=False):
        there = [cell for cell in cells if cell not in MISSING]
        if name and not NUMBER(name) and there and all(map(NUMBER, there)):
            return True
    numbers, below = zip(*((a, b) for a, b in zip_longest(row, second, fillvalue="") if NUMBER(a)), strict=True)
    if len(numbers) < 3:  # so few may well be data
        alone = len(numbers) == len(row) - (not row[0])  # the index, as pandas writes it, has no name
        return alone and numbers == ("0", "1")[: len(numbers)] and not any(map(WHOLE, below))
    return _counts(numbers) and not _counts(below)


def _counts(row: Sequence[str]) -> bool:
    """Say whether a row is whole numbers, each one more than the one before."""
    return all(map(WHOLE, row)) and all(int(b) == int(a) + 1 for a, b in pairwise(row))


def _label_column(columns: list[str], asked: Asked) -> str | None:
    """Return the column that holds labels, or None."""
    known = {field.name for field in asked.fields}
    if asked.label is None:
        found = [name for name in columns if _is_label(name) and name not in known]
        if len(found) > 1:
            both = f"columns {found[0]!r} and {found[1]!r} could both be the labels"
            raise UsageError(f"{both}; say which with --label, or drop or rename one")
        return found[0] if found else None
    if asked.label not in columns and asked.label != "none" and not known:  # what is encoded need not have labels
        raise UsageError(f"no column {short(asked.label)} for the labels; the columns are {listed(columns)}")
    return asked.label if asked.label in columns else None


def _labelled(table: Table, column: "Series", asked: Asked) -> Table:
    """Add labels to a table, or a column apart, if it holds too many numbers to be classes or any that is not whole."""
    from pandas import to_numeric

    labels, about = texts(column), f"column {short(column.name)}"
    if (blank := np.array([not label for label in labels])).any():
        raise UsageError(f"{about}, the labels, is blank in row {column.index[blank][0]}; fill or remove it")
    check_length(max(map(len, labels)), f"{about}, the labels")
    numbers = np.asarray(to_numeric(labels.astype(str), errors="coerce"), dtype=np.float64)
    finite, many = bool(np.isfinite(numbers).all()), len(np.unique(numbers))
    whole = finite and bool((numbers % 1 == 0).all())
    if asked.label is None and finite and not (whole and many <= max(FEW, math.isqrt(len(numbers)))):
        note = f"{about} holds {many} different numbers: it is kept apart; --label none makes it a feature"
        return table._replace(apart={str(column.name): numbers}, notes=(*table.notes, note))
    exact = all(re.fullmatch(r"[-+]?\d{1,18}", label) for label in labels)
    return table._replace(y=labels.astype(np.int64) if exact else labels.astype(str))


def _is_label(name: str) -> bool:
    return name.lower() in LABEL_NAMES
