"""How a user wants a table to be read."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vsc.errors import UsageError, choose, short
from vsc.fields import KINDS, Field
from vsc.files import TABLES


class Asked(NamedTuple):
    """
    How a table is to be read.

    The column of classes, `none` for none (by default that called label, class, target or y, unless it is continuous);
    columns to leave out; the likelihoods of others (`vsc.fields.wanted`); and what they are, where that is known.
    """

    label: str | None = None
    drop: Sequence[str] = ()
    columns: Mapping[str, str] = {}
    fields: tuple[Field, ...] = ()

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


def check_no_table(given: Asked, what: str) -> None:
    """Refuse what is asked of a table where there is none; `what` says what there is instead."""
    for name in ("label", "drop", "columns"):
        if getattr(given, name) not in (None, "none") and len(getattr(given, name)):
            raise UsageError(f"data.{name} is for tables ({', '.join(TABLES)}), and {what}; leave it out")
