"""The files that codes are written to, by what their names end in."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsc import files
from vsc.errors import UsageError

if TYPE_CHECKING:
    from pandas import DataFrame

    from vsc.model import Codes


def write(out: Path, codes: "Codes", known: Mapping[str, Any]) -> None:
    """Write codes (N, J) and what is known of the examples: `row`, their numbers or names (N,), and maybe `label`."""
    WRITERS[suffix(out)](out, codes, known)


def suffix(out: Path) -> str:
    """Return which key of `WRITERS` the name of a file ends in, or refuse it."""
    found = [kind for kind in WRITERS if out.name.endswith(kind)]
    if not found:
        raise UsageError(f"out must end in {', '.join(WRITERS)}, not {str(out)!r}")
    return max(found, key=len)


def _npz(out: Path, codes: "Codes", known: Mapping[str, Any]) -> None:
    arrays = {"z": codes.z, "hard": codes.hard, "gamma": codes.gamma, "mu": codes.mu}
    rows = known["row"] if known["row"].dtype.kind in "iu" else known["row"].astype(str)
    files.write_npz(out, arrays | {"rows": rows} | ({"y": known["label"]} if "label" in known else {}))


def _sparse(out: Path, codes: "Codes", known: Mapping[str, Any]) -> None:
    from scipy.sparse import csr_matrix, save_npz

    with files.whole(out) as temporary:
        save_npz(temporary, csr_matrix(codes.hard.numpy()))


def _csv(out: Path, codes: "Codes", known: Mapping[str, Any]) -> None:
    with files.whole(out) as temporary:
        _frame(codes, known).to_csv(temporary, index=False)


def _parquet(out: Path, codes: "Codes", known: Mapping[str, Any]) -> None:
    try:
        with files.whole(out) as temporary:
            _frame(codes, known).to_parquet(temporary, index=False)
    except ImportError as error:
        raise UsageError('to write .parquet files: pip install "variational-sparse-coding[tables]"') from error


def _frame(codes: "Codes", known: Mapping[str, Any]) -> "DataFrame":
    """Return hard codes as a table, a column for each latent."""
    from pandas import DataFrame

    hard = codes.hard.numpy()
    return DataFrame(dict(known) | {f"latent_{j}": hard[:, j] for j in range(hard.shape[1])})


WRITERS: dict[str, Callable[[Path, "Codes", Mapping[str, Any]], None]] = {
    ".npz": _npz,
    ".csr.npz": _sparse,
    ".csv": _csv,
    ".parquet": _parquet,
}
