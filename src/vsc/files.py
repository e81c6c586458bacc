"""Files that appear whole or not at all."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """
    Give a temporary name beside `path`; rename it to `path` if the block succeeds, remove it if not.

    Parameters
    ----------
    path : str or Path
        The file to write. Its folder is made if it is missing; what was there before is replaced.

    Yields
    ------
    Path
        Where to write, with the same suffix.

    Raises
    ------
    OSError
        If the file cannot be written; it names `path`, not the temporary name.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                temporary.unlink()
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_npz(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays (NumPy or torch) as a compressed .npz file, whole or not at all."""
    plain: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **plain)
