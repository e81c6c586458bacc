"""How a user wants a table, or a folder of pictures, to be read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vsc.errors import UsageError, choose, short
from vsc.fields import KINDS, Field
from vsc.files import TABLES

Size = int | str | tuple[int, int] | None
"""What to bring pictures to, in pixels: a side, "WIDTHxHEIGHT", or both as numbers; None where they have one size."""
OF_TABLES = ("label", "drop", "columns")


class Asked(NamedTuple):
    """
    How a table, or a folder of pictures, is to be read.

    Of a table, the column of classes, `none` for none (by default that called label, class, target or y, unless it is
    continuous); columns to leave out; the likelihoods of others (`vsc.fields.wanted`); and what they are, where that is
    known. Of pictures, the size, or the shape that a model takes, and the folder of all that is downloaded and
    converted (`vsc.data.download.data_folder`).
    """

    label: str | None = None
    drop: Sequence[str] = ()
    columns: Mapping[str, str] = {}
    fields: tuple[Field, ...] = ()
    size: Size = None
    shape: tuple[int, ...] = ()
    root: str | Path | None = None

    @classmethod
    def of(
        cls,
        label: str | None = None,
        drop: str | Sequence[str] | None = None,
        columns: str | Mapping[str, str] | None = None,
    ) -> "Asked":
        """Read what users write: `drop` as "id,date" or a list of names, `columns` as "age=gaussian,p*=poisson"."""
        dropped = _parts(drop) if isinstance(drop, str) else [str(name) for name in drop or ()]
        if isinstance(columns, str):
            pairs = [part.rpartition("=") for part in _parts(columns)]
            if bad := next((last for name, _, last in pairs if not name), None):
                raise UsageError(f"data.columns has {short(bad)} where NAME=KIND is due; KIND: {', '.join(KINDS)}")
            columns = {name.strip(): kind.strip() for name, _, kind in pairs}
        for name, kind in (columns or {}).items():
            choose(KINDS, kind, f"likelihood of column {short(name)}:")
        return cls(label, dropped, columns or {})


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def check_asked(given: Asked, what: str, names: Sequence[str] = OF_TABLES) -> None:
    """Refuse what is asked of tables, or of pictures, where there are none; `what` says what there is instead."""
    for name in names:
        if getattr(given, name) not in (None, "none", (), [], {}):
            kind = f"tables ({', '.join(TABLES)})" if name in OF_TABLES else "folders of pictures"
            raise UsageError(f"data.{name} is for {kind}, and {what}; leave it out")
