"""The user's own arrays, from memory or from a file, checked once so that training need not."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsc.arrays import Array, as_frame, column_order, is_frame, plain
from vsc.data.asked import Asked, check_asked
from vsc.data.checks import FEWEST, Checked, check_length, examples, known_range, labelled
from vsc.data.npz import ENDS, check_complete, described, known, names
from vsc.data.npz import fields as npz_fields
from vsc.data.reading import Found, read, tabled
from vsc.data.split import Dataset, Source, Split, hold_out, ordered, tested
from vsc.data.stored import FileShard, Stored
from vsc.data.table import parted
from vsc.errors import UsageError, listed


def from_arrays(
    x: Any,
    y: Array | str | None = None,
    name: str = "array",
    valid_fraction: float = 0.1,
    seed: int = 0,
    *,
    x_test: Any = None,
    y_test: Array | None = None,
    features: tuple[str, ...] = (),
    drop: str | Sequence[str] = (),
    columns: str | Mapping[str, str] = "",
) -> Dataset:
    """
    Make a data set of your own arrays.

    Parameters
    ----------
    x : array-like, torch.Tensor or data frame, shape (N, M), (N, H, W), (N, C, H, W) or (N, H, W, C)
        Examples, at least 10: whatever `vsc.arrays.plain` takes. C is 1, 3 or 4; channels are moved first, and where
        both places fit they are taken to be first already unless only the other makes the images square. uint8 is kept
        and 255 means 1, or 1 means 1 if there is nothing above 1. Other numbers become float32 (float64 where that
        blurs a column, `vsc.arrays.as_stored`); if all lie in [0, 1], `Dataset.high` is 1, else None.
        Columns of a data frame may hold text and missing values; what each is taken for is in `Dataset.fields`.
    y : array-like or torch.Tensor, shape (N,), or str, optional
        Class labels: integers, strings or booleans; or the name of the column of a data frame that holds them, by
        default the one called label, class, target or y, unless it is continuous. A column that holds the same is left
        out.
    name : str
        Name of the data set.
    valid_fraction : float
        Share of the training set that is held out for validation, in [0, 1).
    seed : int
        Seed of the validation part.
    x_test, y_test : optional
        Test examples and their labels. Without them a fifth of `x` is the test set: a random one, always the
        same, whatever `seed`.
    features : tuple of str
        Names of the columns of `x`, for tables; by default those of the data frame.
    drop : sequence of str, or str
        Columns of a data frame to leave out; as text, separated by commas.
    columns : mapping of str to str, or str
        Likelihoods of a data frame's columns, where others are wanted than `vsc.fields.describe` chooses: column, or a
        pattern such as `pixel*`, -> gaussian, bernoulli, categorical, poisson or negative-binomial; as text,
        "age=gaussian,zip=categorical".

    Returns
    -------
    Dataset
        In memory, a copy of the arrays. But where `x` is a `numpy.memmap`, or a list of them whose rows follow each
        other, the training examples stay on disk (`vsc.data.stored.Stored`), and a held-out part has at most 10 000
        rows and 1 GiB; the rest trains.

    Raises
    ------
    UsageError
        If there are fewer than 10 examples, no features or only one value in all of `x`; if `x` holds NaN,
        infinite, complex or non-numeric values or has an unsuitable shape; if labels are not one per example
        or not classes; or if the test arrays do not fit the others.

    Examples
    --------
    >>> data = from_arrays([[i, i % 3] for i in range(50)], features=("number", "rest"))
    >>> data.shape, len(data.train), len(data.valid), len(data.test)
    ((2,), 36, 4, 10)
    """
    given = {"x": x, "y": y, "x_test": x_test, "y_test": y_test}
    given = {what: array for what, array in given.items() if array is not None}
    wanted = Asked.of(None, drop, columns)
    if not is_frame(x):
        check_asked(wanted, "x is no data frame")
    found = _framed(given, wanted, features) if is_frame(x) else Found(given, tuple(features))
    return hold_out(_source(found), name, valid_fraction, seed)


def _framed(given: Mapping[str, Any], wanted: Asked, features: Sequence[str]) -> Found:
    """Return what data frames hold; their columns are called `features` where these are given."""
    frames = {name: as_frame(one) for name, one in given.items() if name in ("x", "x_test") and is_frame(one)}
    if features and len(features) != frames["x"].shape[1]:
        raise UsageError(f"{len(features)} feature names for {frames['x'].shape[1]} features")
    if features:
        frames = {name: frame.set_axis(list(features), axis=1) for name, frame in frames.items()}
    y, same, notes = given.get("y"), [], ()
    if y is not None and not isinstance(y, str):
        told = np.asarray(y)
        same = [name for name, column in frames["x"].items() if np.array_equal(column.to_numpy(), told)]
        notes = (f"column {listed(same)} holds the labels and is left out",) * bool(same)
    wanted = wanted._replace(
        drop=(*wanted.drop, *same), label=y if isinstance(y, str) else "none" if y is not None else None
    )
    table = parted(frames["x"], wanted, grey=True)
    found = tabled(table)
    arrays = found.arrays | {name: one for name, one in given.items() if name != "x" and not isinstance(one, str)}
    if "x_test" in frames:
        test = tabled(parted(frames["x_test"], wanted._replace(fields=table.fields), grey=not table.fields))
        arrays |= {f"{name}_test": array for name, array in test.arrays.items()}
    return found._replace(arrays=arrays, notes=(*found.notes, *notes))


def from_file(path: Path, valid_fraction: float = 0.1, seed: int = 0, wanted: Asked | None = None) -> Dataset:
    """
    Make a data set of a file, or a folder, `path`, named after it; `valid_fraction` and `seed` as for `from_arrays`.

    It is a .npy file of examples; a .npz file with `x` and, optionally, `y`, `factors` and `presence` (N, F), the same
    of a test and a validation part, `x_test`, `x_valid` and so on, and all else that `vsc.data.npz.write` writes (other
    common names are taken too), or a matrix that SciPy's `save_npz` wrote; a table, read as is `wanted`
    (`vsc.data.table.read_table`); images in MNIST's format, named as there; a folder of .npy files, whose rows
    follow each other (part-2 before part-10), with the labels of all rows in `y.npy` if they are known; or a folder of
    pictures, whose sub-folders are classes, or train, test and valid, or both (`vsc.data.pictures.load`). What is
    larger than 1 GiB stays on disk, as a `numpy.memmap` does.
    """
    with _about(path):
        stem = path.name if path.is_dir() else path.name.removesuffix(".gz").rsplit(".", 1)[0]
        return hold_out(_source(read(path, wanted or Asked())), stem, valid_fraction, seed)


class Rows(NamedTuple):
    """
    The examples of a file (N, M) in order as stored, and what is known of them.

    Labels (N,) as they stand there; names of columns, or (); the file (N,) that each comes from, or ().
    """

    x: Tensor | Stored
    y: NDArray[Any] | None
    features: tuple[str, ...]
    rows: NDArray[Any] | None = None
    """Names of the rows (N,), where a table has them; pictures are called as their files."""


def read_rows(path: Path, columns: tuple[str, ...] = (), wanted: Asked | None = None) -> Rows:
    """
    Read all examples of a file `path` (as for `from_file`, as is `wanted`) in their order, without splitting them.

    Where the file names its columns, they are put in the order of `columns`; other columns are a UsageError.
    """
    with _about(path):
        found = read(path, wanted or Asked(), once=True)
        x = _checked(found.arrays["x"], "x", 1, bool(found.fields)).x
        y = plain(found.arrays["y"], "y").values if "y" in found.arrays else None
        if y is not None and y.shape[:1] != (len(x),):
            raise UsageError(f"y has shape {y.shape}; it must hold a label for each of the {len(x)} examples")
        order = column_order(found.features, columns)
        names = found.features if order is None else columns
        rows = None if found.rows is None else found.rows[: len(x)]
        return Rows(x if order is None else ordered(x, order), y, names, rows)


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Name the file in every complaint."""
    try:
        yield
    except UsageError as error:
        raise UsageError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _source(found: Found) -> Source:
    """Check all arrays that were given."""
    given, ends = found.arrays, [end for end in ENDS.values() if "x" + end in found.arrays]
    check_complete(given)
    fields = found.fields or npz_fields(given)
    missing = bool(fields)
    parts = {end: _checked(given[f"x{end}"], f"x{end}", 1 if end else FEWEST, missing) for end in ends}
    first = parts[""]
    features = found.features or first.names
    if features and len(features) != first.x.shape[1]:
        raise UsageError(f"{len(features)} feature names for {first.x.shape[1]} features")
    check_length(max(map(len, features), default=0), "names of columns")
    xs = alike({"x" + end: part for end, part in parts.items()})
    for end, part in parts.items():
        if end and (order := column_order(part.names, features)) is not None:
            xs["x" + end] = ordered(xs["x" + end], order)
    labels, classes = labelled(
        {"y" + end: (given.get("y" + end), len(xs["x" + end])) for end in ends}, names(given, "classes")
    )
    splits = {end: Split(x := xs["x" + end], labels["y" + end], **known(given, end, len(x))) for end in ends}
    train, test = (splits[""], splits["_test"]) if "_test" in splits else tested(splits[""])
    kinds = {field.likelihood for field in fields}  # of several, values in [0, 1] mean different things
    high = None if len(kinds) > 1 or "categorical" in kinds else known_range(*xs.values())
    about = first.shape, classes, high, features, splits.get("_valid")
    source = described(Source(train, test, *about, fields=fields, first=found.first), given)
    notes = [*source.notes, *found.notes]
    given_shape = getattr(given["x"], "shape", ())
    if len(given_shape) == 4 and tuple(given_shape[1:]) != first.shape:
        notes.append(f"examples of shape {tuple(given_shape[1:])} are images with the channels last")
    if "y" in given and len(first.shape) == 1 and not isinstance(first.x, Stored):
        notes += _repeated(first.x.numpy(), plain(given["y"]).values, features)
    return source._replace(notes=tuple(notes))


def _repeated(x: NDArray[Any], y: NDArray[Any], names: Sequence[str]) -> Iterator[str]:
    """Yield a note on each column of examples (N, M) that holds the labels, or one on all of them."""
    if y.dtype.kind in "biuf" and len(y):
        for j in np.flatnonzero(x[0] == y.flat[0]).tolist():
            if np.array_equal(x[:, j], y.ravel()):
                name = f"column {names[j]!r}" if names else f"column {j}, from 0,"
                yield f"{name} of x holds the labels: take it out if it is no feature"


def alike(parts: Mapping[str, Checked]) -> dict[str, Tensor]:
    """Return the examples of parts that agree in shape and kind of number; where one needs float64, all are."""
    (one, first), *_ = parts.items()
    for what, part in parts.items():
        if part.shape != first.shape:
            raise UsageError(f"examples of {what} have shape {part.shape}, those of {one} {first.shape}")
        if (part.x.dtype == torch.uint8) != (first.x.dtype == torch.uint8):
            raise UsageError(f"one of {one} and {what} is uint8 and the other is not; give both as the same type")
    xs = {what: part.x for what, part in parts.items()}
    if any(x.dtype == torch.float64 for x in xs.values()):
        for x in (x for x in xs.values() if isinstance(x, Stored)):
            x.dtype = torch.float64
        xs = {what: x if isinstance(x, Stored) else x.double() for what, x in xs.items()}
    return xs


def _checked(x: Any, what: str, fewest: int, missing: bool = False) -> Checked:
    """Return the checked examples, in memory or, where they are on disk, in place of a tensor; see `examples`."""
    mapped = [x] if isinstance(x, np.memmap) else x
    if what == "x" and isinstance(mapped, list | tuple) and mapped and all(map(_is_mapped, mapped)):
        x = Stored([FileShard(one, f"{what}[{i}]" if len(mapped) > 1 else what) for i, one in enumerate(mapped)])
    if isinstance(x, Stored):
        x.survey(fewest)
        return Checked(cast(Tensor, x), x.example_shape)
    return examples(x, what, fewest, missing)


def _is_mapped(x: Any) -> bool:
    return isinstance(x, np.memmap) and x.filename is not None
