"""UCI-HAR: windows of a phone's motion sensors during six activities, as 561 features or as nine signals."""

import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsc.data.download import fetch
from vsc.data.split import Source, Split
from vsc.errors import RunError, UsageError
from vsc.files import undamaged

ACTIVITIES = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")
SIGNALS = tuple(f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
FEATURES, WINDOW = 561, 128  # columns of X_*.txt; samples of one window, at 50 Hz
WINDOWS = {"train": 7352, "test": 2947}  # as published
DIGITS = 8  # significant digits of the published numbers

_FOLDER = "UCI HAR Dataset"
_AGAIN = "get the archive again"
_HOME = "https://archive.ics.uci.edu/dataset/240"
# (file, checksum, mirrors): today's archive, in which the original one lies, and the original one
_ARCHIVES = (
    (
        "human+activity+recognition+using+smartphones.zip",
        "sha256:c00b803081a5c797cd5e4b83700a9810b38d53d9d84e01917e090e1fdbc81031",
        ("https://archive.ics.uci.edu/static/public/240",),
    ),
    (
        f"{_FOLDER}.zip",
        "sha256:2045e435c955214b38145fb5fa00776c72814f01b203fec405152dac7d5bfeb0",
        ("https://archive.ics.uci.edu/ml/machine-learning-databases/00240",),
    ),
)

Tree = Path | zipfile.Path  # a folder, or one inside a zip file: both are read in the same way


def features(root: Path) -> Source:
    """
    Load the 561 features of each window, as published in [-1, 1], 7352 to train and 2947 to test on, with activities.

    The split is the source's own, by person: 21 of the 30 people are in the training set, 9 in the test set. The last
    windows are the validation part, those of other people too: windows overlap, and a person's are alike, so that a
    random part would not show what is learned by heart.
    `extras["subject"]` (N,) int64 is the person's number from 1 to 30, where the tree says it. The folder `UCI HAR
    Dataset` or one of the two official zip files is looked for in `root`, which may also be that folder or zip file
    itself; if there is none, the archive (61 MB) is downloaded to `root`.

    Source: D. Anguita, A. Ghio, L. Oneto, X. Parra and J. L. Reyes-Ortiz, "A Public Domain Dataset for Human Activity
    Recognition Using Smartphones", ESANN 2013.
    """
    tree = _find(root, "X_{part}.txt")
    train, test = (_split(tree, part, _table(tree / part / f"X_{part}.txt", FEATURES)) for part in ("train", "test"))
    notes = _lacking(tree, train, test)
    return Source(train, test, (FEATURES,), ACTIVITIES, features=_names(tree), notes=notes, in_order=True)


def signals(root: Path) -> Source:
    """
    Load the nine inertial signals of each window, (9, 128) in the order of `SIGNALS`; else as `features`.

    Accelerations are in g, angular velocities in rad/s. Fewer windows than the published ones are accepted, so that a
    part of the data can be used; `notes` say what it lacks.
    """
    files = [f"Inertial Signals/{signal}_{{part}}.txt" for signal in SIGNALS]
    tree = _find(root, *files)
    parts = []
    for part in ("train", "test"):
        paths = [tree / part / file.format(part=part) for file in files]
        tables = [_table(path, WINDOW) for path in paths]
        for path, table in zip(paths, tables, strict=True):
            if len(table) != len(tables[0]):
                raise UsageError(f"{path}: {len(table)} windows where {paths[0].name} has {len(tables[0])}")
        parts.append(_split(tree, part, np.stack(tables, axis=1).reshape(len(tables[0]), -1)))
    train, test = parts
    notes = _lacking(tree, train, test, tree / "train" / files[0].format(part="train"))
    return Source(train, test, (len(SIGNALS), WINDOW), ACTIVITIES, notes=notes, in_order=True)


def _lacking(tree: Tree, train: Split, test: Split, signal: Tree | None = None) -> tuple[str, ...]:
    """Say, a line each, what of the published data set a tree has not."""
    notes = []
    if (len(train), len(test)) != tuple(WINDOWS.values()):
        counts = f"{len(train)} of {WINDOWS['train']} training and {len(test)} of {WINDOWS['test']} test windows"
        notes.append(f"a part of the data set: {counts}")
    if not train.extras:
        notes.append("without the people: subject_train.txt and subject_test.txt are not here")
    if signal is not None:
        if not (tree / "train" / "X_train.txt").is_file():
            notes.append(f"without the {FEATURES} features, which the data set har reads")
        if (digits := _digits(signal)) < DIGITS:
            notes.append(f"values have {digits} significant digits; the published ones have {DIGITS}")
    return tuple(notes)


def _digits(path: Tree) -> int:
    """Return the most significant digits of any number in a table's first row."""
    numbers = _text(path).partition("\n")[0].lower().split()
    mantissas = (number.partition("e")[0].lstrip("+-").replace(".", "").lstrip("0") for number in numbers)
    return max((len(mantissa) for mantissa in mantissas), default=DIGITS)  # the row may be blank


def _find(root: Path, *files: str) -> Tree:
    """Return the first tree that has the labels and these files of both parts; download one if there is none."""
    needed = [f"{part}/{file.format(part=part)}" for part in ("train", "test") for file in ("y_{part}.txt", *files)]
    lacking = []
    for tree in _trees(root):
        missing = [file for file in needed if not (tree / file).is_file()]
        if not missing:
            return tree
        lacking.append((tree, missing))
    if not lacking:
        return _download(root)
    tree, missing = lacking[0]
    more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
    signals_only = "X_{part}.txt" in files and (tree / "train" / "Inertial Signals").is_dir()
    hint = f" (the {FEATURES} features); it has signals, which the data set har-signals reads" if signals_only else ""
    raise UsageError(
        f"{tree}: this part of UCI-HAR lacks {', '.join(missing[:2])}{more}{hint}; to have all of it, give as "
        f"--data-root an empty folder (it is downloaded, 61 MB), or your copy of {_ARCHIVES[0][0]} from "
        f"{_HOME} or of the folder {_FOLDER!r} in it"
    )


def _trees(root: Path) -> Iterator[Tree]:
    """Yield what looks like the data set, in the order of preference."""
    for path in (root / _FOLDER, root, *(root / file for file, *_ in _ARCHIVES)):
        if path.is_file():
            yield _inside(path)
        elif (path / "train").is_dir():
            yield path


def _inside(archive: Path) -> zipfile.Path:
    """Return the tree of a zip file, which may lie in another zip file inside."""
    nested = f"{_FOLDER}.zip"
    with undamaged(f"{archive}: ", _AGAIN):
        with zipfile.ZipFile(archive) as outer:
            inner = io.BytesIO(outer.read(nested)) if nested in outer.namelist() else None
        whole = zipfile.ZipFile(inner or archive)
        whole.filename = f"{archive}/{nested}" if inner else str(archive)  # for messages
    top = zipfile.Path(whole)
    for tree in (top / _FOLDER, top):
        if (tree / "train").is_dir():
            return tree
    raise UsageError(f"{archive}: a zip file without the folder {_FOLDER!r}; this is not UCI-HAR")


def _download(root: Path) -> Tree:
    problems = []
    for archive in _ARCHIVES:
        try:
            return _inside(fetch(*archive, root))
        except RunError as error:
            problems.append(str(error))
    raise RunError("; or: ".join(problems))


def _text(path: Tree) -> str:
    with undamaged(f"{path}: ", _AGAIN):
        return path.read_text(encoding="utf-8", errors="replace")


def _table(path: Tree, columns: int) -> NDArray[np.float32]:
    """Read a table of numbers between blanks, shape (N, columns)."""
    lines = _text(path).splitlines()
    if not any(map(str.strip, lines)):
        raise UsageError(f"{path}: the file is empty; {_AGAIN}")
    try:
        table = np.loadtxt(lines, np.float32, comments=None, ndmin=2)
    except ValueError as error:
        problem = str(error).partition(";")[0]
        raise UsageError(f"{path}: not a table of numbers ({problem}); {_AGAIN}") from error
    if table.shape[1] != columns:
        raise UsageError(f"{path}: {table.shape[1]} columns where {columns} are expected; {_AGAIN}")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0] + 1
        raise UsageError(f"{path}: row {row}, column {column} is NaN or infinite; {_AGAIN}")
    return table


def _split(tree: Tree, part: str, x: NDArray[np.float32]) -> Split:
    y = _integers(tree / part / f"y_{part}.txt", len(x), len(ACTIVITIES))
    people = tree / part / f"subject_{part}.txt"
    extras = {"subject": _integers(people, len(x), 30)} if people.is_file() else {}
    return Split(torch.from_numpy(x), y - 1, extras=extras)


def _integers(path: Tree, N: int, most: int) -> Tensor:
    """Read a number from 1 to `most` for each of the N windows."""
    column = _table(path, 1)[:, 0]
    if len(column) != N:
        raise UsageError(f"{path}: {len(column)} rows for {N} windows; {_AGAIN}")
    wrong = column[(column < 1) | (column > most) | (column != np.round(column))]
    if wrong.size:
        raise UsageError(f"{path}: it holds {wrong[0]:g}; whole numbers from 1 to {most} are expected")
    return torch.from_numpy(column.astype(np.int64))


def _names(tree: Tree) -> tuple[str, ...]:
    """Return the features' names; as 42 of them stand for three columns each, those begin with their number."""
    path = tree / "features.txt"
    if not path.is_file():
        return ()
    names = [line.partition(" ")[2].strip() for line in _text(path).splitlines() if line.strip()]
    if len(names) != FEATURES or not all(names):
        raise UsageError(f"{path}: {len(names)} names for {FEATURES} features; {_AGAIN}")
    count = Counter(names)
    return tuple(name if count[name] == 1 else f"{i} {name}" for i, name in enumerate(names, 1))
