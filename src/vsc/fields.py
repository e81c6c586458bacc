"""What the columns of a table are: how each is read from a data frame, and named and filled in again."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsc.arrays import as_frame, column_order, from_objects
from vsc.errors import UsageError, choose, listed, short

if TYPE_CHECKING:
    from pandas import Series

KINDS = {
    "gaussian": "numbers",
    "bernoulli": "one of two",
    "categorical": "one of several",
    "poisson": "counts whose variance is their mean",
    "negative-binomial": "counts",
}
"""The likelihoods that a column may have, in words."""
COUNTS = ("poisson", "negative-binomial")
LEVELS, MOST = 50, 1000
"""Different texts from which on a column may be names of the rows, and beyond which it is not read as it is."""
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?")


class Field(NamedTuple):
    """
    A column of a table.

    Attributes
    ----------
    name : str
        As in the table.
    likelihood : str
        A key of `KINDS`: the column's own p(x|z).
    levels : tuple of str
        What 0, 1, .. of a categorical column, or of a bernoulli one that does not hold 0 and 1, stand for; else empty.
    """

    name: str
    likelihood: str
    levels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Columns that it has in a model: one for each level of a categorical one."""
        return len(self.levels) if self.likelihood == "categorical" else 1

    @property
    def names(self) -> tuple[str, ...]:
        """The names of these."""
        if self.likelihood == "categorical":
            return tuple(f"{self.name}={level}" for level in self.levels)
        return (f"{self.name}={self.levels[1]}",) if self.levels else (self.name,)


def field_of(told: Sequence[Any]) -> Field:
    """Return a field that was written as a list, as JSON does; ValueError or TypeError if it was not."""
    name, kind, levels = told
    choose(KINDS, kind, "likelihood")
    field = Field(str(name), kind, tuple(map(str, levels)))
    if (kind == "categorical" and not levels) or (kind == "bernoulli" and len(levels) not in (0, 2)):
        raise ValueError(f"column {short(name)} has {len(levels)} levels")
    return field


def mixed(fields: Iterable[Field]) -> bool:
    """Whether any of the fields is not gaussian."""
    return any(field.likelihood != "gaussian" for field in fields)


def names(fields: Iterable[Field]) -> tuple[str, ...]:
    """Return the names (M,) of all columns that `fields` have in a model."""
    return tuple(name for field in fields for name in field.names)


def parts(fields: Iterable[Field]) -> Iterator[tuple[Field, slice]]:
    """Yield each field with the place of its columns among the M of a model."""
    start = 0
    for field in fields:
        yield field, slice(start, start + field.width)
        start += field.width


def wanted(chosen: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    """
    Return the likelihood that is `chosen` for each of some `columns`: column -> likelihood.

    `chosen` has names of columns, or patterns such as `pixel*`, of which the last that fits counts, where no name does.
    UsageError if a likelihood is unknown, or a name or pattern fits none.
    """
    found: dict[str, str] = {}
    for pattern, kind in sorted(chosen.items(), key=lambda item: item[0] in columns):
        choose(KINDS, kind, f"likelihood of column {short(pattern)}:")
        fits = [pattern] if pattern in columns else [name for name in columns if fnmatchcase(name, pattern)]
        if not fits:
            raise UsageError(f"no column {short(pattern)} to be {kind}; the columns are {listed(columns)}")
        found |= dict.fromkeys(fits, kind)
    return found


def describe(frame: Any, chosen: Mapping[str, str] | None = None) -> tuple[Field, ...]:
    """
    Say what each column of a data frame is.

    Text is categorical, or bernoulli with two levels, which are sorted, or in the order of the categories that pandas
    has; true and false, and 0 and 1, are bernoulli; other whole numbers from 0 on are counts, negative-binomial; all
    else is gaussian.

    Parameters
    ----------
    frame : data frame
        The table, of pandas, polars or pyarrow; values may be missing.
    chosen : mapping of str to str, optional
        Column or pattern -> likelihood, where another is wanted (`wanted`).

    Returns
    -------
    tuple of Field
        In the order of the columns.

    Raises
    ------
    UsageError
        If a column holds dates, nothing, or as good as a name for each row, or cannot be what is chosen.
    """
    frame = as_frame(frame)
    kinds = wanted(chosen or {}, list(frame.columns))
    found: list[Field] = []
    bad: dict[str, UsageError] = {}
    for name in frame.columns:
        try:
            found.append(_field(frame[name], name, kinds.get(name)))
        except UsageError as error:
            bad[name] = error
    if bad:
        first, *others = bad
        raise UsageError(f"{bad[first]}" + (f"; unsuitable too: {listed(others, 3)}" if others else ""))
    return tuple(found)


def _field(column: "Series", name: str, kind: str | None) -> Field:
    there = column.dropna()
    if not len(there):
        raise UsageError(f"column {short(name)} has no values; drop it (--drop)")
    numbers = _numbers(there)
    if numbers is None and kind != "categorical":
        _check_text(there, name, kind)
    truth = numbers is not None and np.isin(numbers, (0, 1)).all() and numbers.min() < numbers.max()
    if kind is None and numbers is not None:
        kind = "bernoulli" if truth else _usual(numbers)
    if kind == "gaussian" or (kind == "bernoulli" and truth):
        return Field(name, kind)
    if kind in COUNTS and numbers is not None:
        if (bad := ~_counting(numbers)).any():
            raise UsageError(
                f"column {short(name)} cannot be {kind}: it holds {numbers[bad][0]:g} in row {there.index[bad][0]}; "
                "counts are whole and not negative"
            )
        return Field(name, kind)
    levels = _levels(there)
    if kind == "bernoulli" and len(levels) != 2:
        raise UsageError(f"column {short(name)} has {len(levels)} different values and cannot be bernoulli, one of two")
    return Field(name, kind or ("bernoulli" if len(levels) == 2 else "categorical"), levels)


def _usual(numbers: NDArray[np.float64]) -> str:
    """Say what a column of numbers is, which are not all 0 or 1, where nothing is chosen."""
    between = (numbers > 0) & (numbers < numbers.max())
    counts = numbers.min() == 0 and between.any() and _counting(numbers).all()
    return "negative-binomial" if counts else "gaussian"


def _counting(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (numbers >= 0) & (numbers == np.round(numbers)) & np.isfinite(numbers)


def _check_text(there: "Series", name: str, kind: str | None) -> None:
    """Refuse what is no number and no plain text either, with what to do about it."""
    from pandas import to_numeric
    from pandas.api.types import infer_dtype

    about, what = f"column {short(name)}", infer_dtype(there)
    texts = there.astype(str)
    if what in ("datetime64", "datetime", "date", "timedelta64", "timedelta", "time", "period") or (
        what == "string" and texts.iloc[:1000].str.fullmatch(DATE).all()
    ):
        raise UsageError(f"{about} holds dates; drop it (--drop), or give it as a number: days since a first day, say")
    if what not in ("string", "categorical", "boolean"):
        raise UsageError(f"{about} holds values of type {what}; give numbers or text, or drop it")
    if kind == "bernoulli":
        return
    if kind is not None:
        raise UsageError(f"{about} holds text ({short(texts.iloc[0], 20)}) and cannot be {kind}; drop or encode it")
    text = np.isnan(np.asarray(to_numeric(texts, errors="coerce"), dtype=np.float64))
    if what == "string" and text.mean() < 0.5:
        at = int(text.argmax())
        odd = f" but for {short(texts.iloc[at], 20)} in row {there.index[at]}" if text.any() else " as text"
        raise UsageError(f"{about} holds numbers{odd}; mend it, or say that it is categorical (--columns NAME=KIND)")
    count = texts.nunique()
    if count > MOST or (count > LEVELS and count > len(there) / 2):
        raise UsageError(
            f"{about} has {count} different texts in {len(there)} rows, as names have; drop it (--drop), or say that "
            "it is categorical (--columns NAME=KIND)"
        )


def _levels(there: "Series") -> tuple[str, ...]:
    """Return the different values of a column, sorted (numbers as such), or in the order of its categories."""
    if hasattr(there, "cat"):
        used = there.cat.remove_unused_categories().cat.categories
        return tuple(texts(used.to_series()))
    return tuple(texts(there.drop_duplicates().sort_values()))


def texts(values: "Series") -> NDArray[Any]:
    """Return values as text: whole numbers without a point, whatever their type; None where missing."""
    values = values.astype(object) if hasattr(values, "cat") else values
    if (numbers := _numbers(values)) is None:
        there = [None if lost else str(v) for v, lost in zip(values, values.isna(), strict=True)]
    else:
        there = [None if np.isnan(n) else str(int(n)) if n % 1 == 0 else str(n) for n in numbers.tolist()]
    return np.array(there, dtype=object)


def _numbers(column: "Series") -> NDArray[np.float64] | None:
    """Return a column as numbers, NaN where missing; None if it holds anything else."""
    from pandas.api.types import is_complex_dtype, is_numeric_dtype

    if is_numeric_dtype(column.dtype) and not is_complex_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return from_objects(column.to_numpy()) if column.dtype == object else None


def expand(frame: Any, fields: Sequence[Field]) -> NDArray[np.float64]:
    """
    Return the values of a data frame as a model takes them.

    Parameters
    ----------
    frame : data frame
        A table with the columns of `fields`, in any order, and no others; values may be missing.
    fields : sequence of Field
        What `describe` said of the training data.

    Returns
    -------
    numpy.ndarray, shape (N, M)
        In the order of `fields`: numbers as they are, levels as 0 and 1 (one-hot if categorical), NaN where missing.

    Raises
    ------
    UsageError
        If a column is missing or unknown, a value is not what its column held in training, or a row has no values.
    """
    frame = as_frame(frame)
    column_order(list(frame.columns), [field.name for field in fields])
    x = np.empty((len(frame), sum(field.width for field in fields)))
    for field, place in parts(fields):
        x[:, place] = _values(frame[field.name], field)
    if fields and (empty := np.isnan(x).all(1)).any():
        raise UsageError(f"row {frame.index[empty][0]} has no values; remove it")
    return x


def _values(column: "Series", field: Field) -> NDArray[np.float64]:
    """Return a field's columns (N, width)."""
    about = f"column {short(field.name)}"
    if field.levels:
        cells = texts(column)
        place = {level: k for k, level in enumerate(field.levels)} | {None: -1}
        new = np.array([cell not in place for cell in cells], dtype=bool)
        if new.any():
            raise UsageError(
                f"{about} holds {short(cells[new][0], 30)} in row {column.index[new][0]}, unseen in training, where it "
                f"was one of {listed(field.levels)}; leave such rows out, or blank"
            )
        at = np.array([place[cell] for cell in cells], dtype=int)
        x = np.eye(len(field.levels))[at] if field.likelihood == "categorical" else at[:, None].astype(np.float64)
        x[at < 0] = np.nan
        return x
    numbers = _numbers(column)
    if numbers is None:
        there = column.dropna().astype(str)
        raise UsageError(f"{about} held numbers in training, and here {short(there.iloc[0], 30)}; mend or convert it")
    refused = {"infinite": np.isinf(numbers)}
    if field.likelihood == "bernoulli":
        refused["neither 0 nor 1, as in training"] = ~np.isin(numbers, (0, 1))
    if field.likelihood in COUNTS:
        refused["no count, which is whole and not negative"] = ~_counting(numbers)
    for what, where in refused.items():
        if (bad := where & ~np.isnan(numbers)).any():
            at = int(bad.argmax())
            raise UsageError(f"{about} is {numbers[at]:g} in row {column.index[at]}: {what}; mend or remove it")
    return numbers[:, None]


def collapse(x: NDArray[np.float64], fields: Sequence[Field]) -> dict[str, NDArray[Any]]:
    """
    Return a model's values as the columns of the table.

    Parameters
    ----------
    x : numpy.ndarray, shape (N, M)
        Values in the order of `fields`, or their expectations: probabilities of levels, for example.
    fields : sequence of Field
        What `describe` said of the training data.

    Returns
    -------
    dict of str to numpy.ndarray, shape (N,)
        The most probable level where a field has levels, as text, or as whole numbers where all its levels are; else
        the numbers as they are. What is missing is None among levels, and NaN among numbers.
    """
    found = {}
    for field, place in parts(fields):
        values = x[:, place]
        if not field.levels:
            found[field.name] = values[:, 0]
            continue
        lost = np.isnan(values[:, :1])
        likely = np.where(lost, 0, values)
        at = (likely[:, 0] > 0.5).astype(int) if field.likelihood == "bernoulli" else likely.argmax(1)
        whole = all(re.fullmatch(r"-?(0|[1-9]\d*)", level) for level in field.levels)
        column = np.array([int(level) if whole else level for level in field.levels], dtype=object)[at]
        column[lost[:, 0]] = None
        found[field.name] = column.astype(np.int64) if whole and not lost.any() else column
    return found
