"""The files that codes are written to, by what their names end in."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsc import files
from vsc.errors import UsageError

if TYPE_CHECKING:
    from pandas import DataFrame

    from vsc.model import Codes

MOST = 2**31
"""Bytes that hard codes may take where a file is written from a whole table."""


def write(out: Path, parts: Iterable["Codes"], known: Mapping[str, Any]) -> None:
    """
    Write codes, as `encode_parts` yields them, and what is known of the N examples.

    That is `row`, their numbers or names (N,), and maybe `label`.
    """
    WRITERS[suffix(out)](out, parts, known)


def suffix(out: Path) -> str:
    """Return which key of `WRITERS` the name of a file ends in, or refuse it."""
    found = [kind for kind in WRITERS if out.name.endswith(kind)]
    if not found:
        raise UsageError(f"out must end in {', '.join(WRITERS)}, not {str(out)!r}")
    return max(found, key=len)


def _npz(out: Path, parts: Iterable["Codes"], known: Mapping[str, Any]) -> None:
    rows = known["row"] if known["row"].dtype.kind in "iu" else known["row"].astype(str)
    arrays = ({"z": one.z, "hard": one.hard, "gamma": one.gamma, "mu": one.mu} for one in parts)
    files.write_npz(out, {"rows": rows} | ({"y": known["label"]} if "label" in known else {}), arrays)


def _sparse(out: Path, parts: Iterable["Codes"], known: Mapping[str, Any]) -> None:
    # to pack it takes a tenth of the time of encoding, and a third off the file
    files.write_npz(out, {"format": np.array(b"csr")}, _csr(parts), packed=False)


def _csr(parts: Iterable["Codes"]) -> Iterator[dict[str, Any]]:
    """Yield what a matrix of SciPy's consists of: of each row the columns that are not zero, and their values."""
    yield {"indptr": np.zeros(1, np.int64)}
    rows, J, stored = 0, 0, 0
    for one in parts:
        hard = one.hard.numpy()
        there, (n, J) = hard != 0, hard.shape
        flat = np.flatnonzero(there)
        yield {"data": hard.reshape(-1)[flat], "indices": (flat % J).astype(np.int32)}
        yield {"indptr": stored + np.cumsum(np.count_nonzero(there, 1), dtype=np.int64)}
        rows, stored = rows + n, stored + len(flat)
    yield {"shape": np.array([rows, J])}


def _csv(out: Path, parts: Iterable["Codes"], known: Mapping[str, Any]) -> None:
    with files.whole(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for frame in _frames(parts, known):
            frame.to_csv(file, index=False, header=not file.tell())


def _parquet(out: Path, parts: Iterable["Codes"], known: Mapping[str, Any]) -> None:
    from pandas import concat

    try:
        with files.whole(out) as temporary:
            concat(_frames(parts, known, MOST), ignore_index=True).to_parquet(temporary, index=False)
    except ImportError as error:
        raise UsageError('to write .parquet files: pip install "variational-sparse-coding[tables]"') from error


def _frames(parts: Iterable["Codes"], known: Mapping[str, Any], most: int | None = None) -> Iterator["DataFrame"]:
    """Yield hard codes as tables, a column for each latent; refuse more than `most` bytes of them."""
    from pandas import DataFrame

    start = 0
    for one in parts:
        hard = one.hard.numpy()
        if most and (size := len(known["row"]) * hard[0].nbytes) > most:
            raise UsageError(f"{size / 2**30:.1f} GiB of codes are too many for one table: let --out end in .csr.npz")
        about = {name: value[start : start + len(hard)] for name, value in known.items()}
        yield DataFrame(about | {f"latent_{j}": hard[:, j] for j in range(hard.shape[1])})
        start += len(hard)


WRITERS: dict[str, Callable[[Path, Iterable["Codes"], Mapping[str, Any]], None]] = {
    ".npz": _npz,
    ".csr.npz": _sparse,
    ".csv": _csv,
    ".parquet": _parquet,
}
