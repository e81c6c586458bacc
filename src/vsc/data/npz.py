"""A data set as one .npz file: what its arrays are called, and how a whole data set is written."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vsc.arrays import numeric
from vsc.data import texts
from vsc.data.checks import check_finite
from vsc.data.split import Dataset, Source
from vsc.errors import UsageError, first_line, listed, short
from vsc.fields import Field, field_of
from vsc.files import as_json, parse_json, write_npz

ENDS = {"train": "", "valid": "_valid", "test": "_test"}
"""What the names of each part's arrays end in."""
EXTRA = "extra_"
"""What the names of a part's extras begin with."""
KINDS = {"x": "x", "images": "x", "image": "x", "data": "x", "inputs": "x"}
KINDS |= {"y": "y", "labels": "y", "label": "y", "targets": "y", "target": "y"}
PARTS = {"train": "", "training": "", "test": "_test", "testing": "_test"}
PARTS |= {"valid": "_valid", "val": "_valid", "validation": "_valid"}
"""Words that other names of arrays are made of, and what they stand for."""
NAMES = ("classes", "features", "factor_names", "groups", "notes")
"""Arrays of text that describe the whole data set."""


def write(path: str | Path, data: Dataset) -> None:
    """
    Write all parts of a data set and everything that is known of them, so that `vsc.data.load(path)` gives it again.

    The .npz file appears whole or not at all. For each part, the names ending in nothing (train), `_valid` or `_test`:
    `x` (N, *shape) as stored; `y` (N,), indices into `classes`; `factors` and `presence` (N, F); `extra_NAME` (N, ...).
    For all of them `shape`, `high`, `NAMES`, `fields` (as JSON) and `texts` (as bytes, a line each), as in `Dataset`.
    What is not known has no array.
    """
    arrays: dict[str, Any] = {"shape": data.shape}
    for part, end in ENDS.items():
        split = getattr(data, part)
        held = {"x": split.x.reshape(-1, *data.shape), "y": split.y}
        held |= {"factors": split.factors, "presence": split.presence}
        held |= {EXTRA + name: extra for name, extra in split.extras.items()}
        arrays |= {name + end: array for name, array in held.items() if array is not None and len(split)}
    arrays |= {name: getattr(data, name) for name in NAMES if getattr(data, name)}
    arrays |= {"fields": [as_json(field) for field in data.fields]} if data.fields else {}
    arrays |= {"texts": texts.pack(data.texts)} if data.texts else {}
    write_npz(path, arrays if data.high is None else arrays | {"high": data.high})


def renamed(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """
    Give the arrays of a file the names that are used here, if it names them as others do; say which was taken for what.

    `x_train` and `y_train`, `X` and `Y`, `train_images` and `train_labels`, or a single array, for example. It is a
    UsageError if there are no examples, or two arrays could be the same.
    """
    if "x" in arrays:
        return dict(arrays), ()
    told: dict[str, str] = {}
    for name in arrays:
        words = [word for word in re.split("[_. -]", name.lower()) if word]
        kinds = [KINDS[word] for word in words if word in KINDS] or ["x"] * (len(arrays) == 1)
        ends = [PARTS[word] for word in words if word in PARTS]
        if len(kinds) == 1 and len(ends) < 2 and (len(kinds) + len(ends) == len(words) or len(arrays) == 1):
            own = kinds[0] + (ends[0] if ends else "")
            if own in told.values():
                other = next(one for one in told if told[one] == own)
                raise UsageError(f"{listed([other, name])} could both be {own}; call one so and leave the other out")
            told[name] = own
    if "x" not in told.values():
        held = listed(arrays) or "nothing"
        raise UsageError(f"holds no array named 'x' (it holds {held}); save it with np.savez(file, x=...)")
    taken = ", ".join(f"{short(name)} as {own}" for name, own in list(told.items())[:6])
    return {told.get(name, name): array for name, array in arrays.items()}, (f"taken {taken}",)


def flattened(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten the examples (N, M) of a file that tells their `shape`, which must fit; it is not guessed."""
    if "shape" not in arrays:
        return dict(arrays)
    shape = _shape(arrays["shape"])
    found = dict(arrays)
    for name in ("x" + end for end in ENDS.values()):
        if name in found:
            x = found[name]
            if x.ndim < 2 or math.prod(x.shape[1:]) != math.prod(shape):
                raise UsageError(f"{name} has shape {x.shape}, which does not fit examples of shape {shape}")
            found[name] = x.reshape(len(x), math.prod(shape))
    return found


def described(source: Source, arrays: Mapping[str, Any]) -> Source:
    """Add what a file says of the data set as a whole: names, shape, `high` and texts, each checked."""
    told: dict[str, Any] = {name: names(arrays, name) for name in NAMES if name in arrays}
    if "shape" in arrays:
        told["shape"] = _shape(arrays["shape"])
    if "high" in arrays:
        high = np.asarray(arrays["high"])
        if high.shape != () or high.dtype.kind not in "fiu" or not 0 < float(high) < math.inf:
            raise UsageError("high must be one positive number, the stored value that means 1")
        told["high"] = float(high)
    if "texts" in arrays:
        told["texts"] = texts.unpack(arrays["texts"])
        for part in (source.train, source.valid, source.test):
            if part is not None and texts.SPAN in part.extras:
                texts.check(told["texts"], part.extras[texts.SPAN].numpy())
    return source._replace(**told)


def names(arrays: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return a list of names that a file may hold, which must be text or whole numbers; empty if it holds none."""
    if key not in arrays:
        return ()
    found = np.asarray(arrays[key])
    if found.ndim != 1 or found.dtype.kind not in "Uiu":
        raise UsageError(f"{key} has type {found.dtype} and shape {found.shape}; it must be a list of names")
    return tuple(str(name) for name in found.tolist())


def fields(arrays: Mapping[str, Any]) -> tuple[Field, ...]:
    """Return what the columns of a table are, where a file says so."""
    try:
        return tuple(field_of(parse_json(text)) for text in names(arrays, "fields"))
    except (ValueError, TypeError) as error:
        raise UsageError(f"its fields are damaged ({first_line(error)}); write the file again") from error


def check_complete(arrays: Mapping[str, Any]) -> None:
    """
    Refuse labels, factors, presence or extras without their examples, or for only some of the parts.

    Extras may be of held-out examples alone: what is known of generated data would be large for all.
    """
    kinds = {_part_of(name)[0] for name in arrays}
    for what in sorted(name for name in kinds if name in ("y", "factors", "presence") or name.startswith(EXTRA)):
        for one, x in ((what + end, "x" + end) for end in ("_test", "_valid")):
            needs = [x] if what.startswith(EXTRA) else [what, x]
            if one in arrays and (lacking := [name for name in needs if name not in arrays]):
                raise UsageError(f"{one} is given without {lacking[0]}")
            if what in arrays and x in arrays and one not in arrays:
                raise UsageError(f"{what} and {x} are given without {one}")


def known(arrays: Mapping[str, Any], end: str, n: int) -> dict[str, Any]:
    """Return `factors`, `presence` and `extras` of the `Split` of `n` examples whose names end in `end`."""
    found: dict[str, Any] = {"extras": {}}
    for name, (what, own) in ((name, _part_of(name)) for name in arrays):
        extra = what.startswith(EXTRA)
        if own != end or not (extra or what in ("factors", "presence")):
            continue
        array = numeric(arrays[name], name).values
        if array.shape[:1] != (n,) or (array.ndim != 2 and not extra):
            form = f"{n} rows, one per example" if extra else f"shape ({n}, F), one row per example"
            raise UsageError(f"{name} has shape {array.shape}; it must have {form}")
        if extra:
            found["extras"][what.removeprefix(EXTRA)] = torch.from_numpy(array.copy())
        else:
            check_finite(array, name)
            found[what] = torch.from_numpy(array.astype(np.float32 if what == "factors" else np.bool_))
    return found


def _part_of(name: str) -> tuple[str, str]:
    """Part the name of an array into what it holds and which part's it is."""
    end = next((end for end in ENDS.values() if end and name.endswith(end)), "")
    return name.removesuffix(end), end


def _shape(array: Any) -> tuple[int, ...]:
    array = np.asarray(array)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu" or array.min() < 1:
        raise UsageError("shape must be a list of positive whole numbers, the shape of one example")
    return tuple(int(n) for n in array)
