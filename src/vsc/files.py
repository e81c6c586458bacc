"""Files that appear whole or not at all."""

import json
import math
import os
import re
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from vsc.errors import Busy, UsageError, first_line

TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".feather", ".arrow", ".h5ad")
"""What the names of tables end in."""
DATA_FILES = (".npy", ".npz", *TABLES, "-ubyte", "-ubyte.gz")
"""What the names of files of examples end in."""
LOCK = ".lock"
"""The file in a folder that says who works there."""
_held: dict[Path, tuple[int, int]] = {}
"""The folders that are claimed, and the process and thread that have them."""


def is_path(name: str) -> bool:
    """Whether a data set's name is the path of a file of examples or, with a slash in it, of a folder."""
    return name.lower().endswith(DATA_FILES) or os.path.basename(name) != name


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """
    Give a temporary name beside `path`; rename it to `path` if the block succeeds, remove it if not.

    The folder is made if it is missing, and the suffix is that of `path`, which an OSError names too.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.tmp{path.suffix}")
    with told_as(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            with suppress(OSError):  # the first error is the one to tell
                temporary.unlink()


@contextmanager
def told_as(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Let an OSError that names no file, or the temporary one, name `path`."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def undamaged(about: str = "", then: str = "save it again") -> Iterator[None]:
    """Let all that readers raise be a UsageError, which begins with `about` and tells what to do `then`."""
    try:
        yield
    except UsageError:
        raise
    except MemoryError as error:
        raise UsageError(
            f"{about}damaged, or too large for memory; {then}, or rows as .npy, which can stay on disk"
        ) from error
    except Exception as error:  # the readers of zip files, headers, tables and pictures have dozens of kinds
        if isinstance(error, OSError) and error.errno:
            raise UsageError(f"{about}cannot be read ({error.strerror})") from error
        raise UsageError(f"{about}damaged ({first_line(error)}); {then}") from error


def clear_temporaries(folder: Path, mine: Sequence[str] = ()) -> None:
    """Remove what processes that are no more had begun to write in a folder; `mine` no other process writes there."""
    for left in folder.glob(".*.tmp.*"):
        parts = re.fullmatch(r"\.(.+)\.(\d+)(-\d+)?\.tmp\..*", left.name)
        if parts and (parts[1] in mine or not _alive(int(parts[2]))):
            with suppress(OSError):
                left.unlink()


def _alive(process: int) -> bool:
    if process == os.getpid() or os.name == "nt":  # where this signal would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def claimed(folder: Path | None) -> Iterator[None]:
    """
    Keep a folder for this thread inside the block; the claim ends with its process, however that ends.

    The folder is made if it is missing, and may be claimed again inside; None claims nothing. Busy if another process
    or thread has it.
    """
    if folder is None or folder.is_file():  # a file is what the writer will stumble over
        yield
        return
    place, me = folder.resolve(), (os.getpid(), threading.get_ident())
    if _held.get(place) == me:
        yield
        return
    from filelock import FileLock, Timeout

    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        other = "thread" if _held.get(place, me)[0] == me[0] and place in _held else "process"
        raise Busy(f"another {other} is at work in {folder}; wait for it, or choose another folder") from None
    except FileNotFoundError:  # it was left, and with that removed, since it was made
        raise Busy(f"another process has just left {folder}; try again") from None
    _held[place] = me
    try:
        yield
    finally:
        _held.pop(place, None)
        with suppress(OSError):  # before the release: whoever waits for the removed file sees that it is
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # what was made for the claim alone goes again
            for path in made:
                path.rmdir()


MOST = 2**26
"""Bytes of a settings or results file beyond which it is not ours."""


def read_json(path: str | Path) -> Any:
    """
    Read a JSON file that may be anyone's, without NaN and infinity, which are not JSON.

    ValueError, in one line that does not name the file, if it is none, too large or too deep; OSError if it cannot be
    read.
    """
    return parse_json(_text(path))


DEEPEST = 100
"""Collections within each other that a YAML file may have."""


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file that may be anyone's, of plain values without aliases; raises as `read_json` does."""
    import yaml

    text = _text(path)
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):  # as far as it is sound: the rest need not be looked at
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has aliases (*name), which are not read")  # a few of them can mean gigabytes
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError("it is nested too deep")
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None


def parse_json(text: str) -> Any:
    """Read JSON without NaN and infinity; ValueError in one line where it is none, or too deep."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _text(path: str | Path) -> str:
    path = Path(path)
    if path.stat().st_size > MOST:
        raise ValueError(f"it has more than {MOST >> 20} MiB")
    return path.read_text(encoding="utf-8")


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def as_json(value: Any, indent: int | None = None) -> str:
    """Write plain values as JSON; numbers that are not finite, which it does not have, become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        return _finite(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; see `as_json`."""
    with whole(path) as temporary:
        temporary.write_text(as_json(value, indent=1) + "\n", encoding="utf-8")


def write_npz(
    path: str | Path, arrays: Mapping[str, Any], growing: Iterable[Mapping[str, Any]] = (), packed: bool = True
) -> None:
    """
    Write named arrays (NumPy or torch) as an .npz file, compressed if `packed`, whole or not at all.

    Of others, `growing` yields parts by name, which are joined along their first axis. They wait on the disk in files
    without a name, which end with the process.
    """
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with whole(path) as temporary, ExitStack() as stack:
        grown: dict[str, Any] = {}
        for part in growing:
            for name, value in part.items():
                arrays[name] = np.ascontiguousarray(value)
                if name not in grown:
                    grown[name] = stack.enter_context(TemporaryFile(dir=temporary.parent))
                grown[name].write(arrays[name].data)
        for name, file in grown.items():
            if file.tell():  # else there were no rows: the last part is all of them
                like = arrays[name]
                arrays[name] = np.memmap(file, like.dtype, "r").reshape(-1, *like.shape[1:])
        with zipfile.ZipFile(temporary, "w", method) as archive:
            for name, value in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, value, allow_pickle=False)
