"""Putting values where those of an array or a data frame are missing, which stays what it is otherwise."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vsc.arrays import as_frame
from vsc.fields import Field, collapse, expand


def filled(x: Any, values: Tensor, fields: Sequence[Field] = ()) -> Any:
    """
    Return what was given with nothing missing.

    Parameters
    ----------
    x : array_like or data frame, shape (N, ...)
        As it was given.
    values : torch.Tensor, shape (N, M)
        The same as stored, with expectations where values are missing.
    fields : sequence of vsc.fields.Field
        What the columns of a data frame are.

    Returns
    -------
    numpy.ndarray, torch.Tensor or data frame
        Of levels, the most probable one, spelt as in the column.
    """
    if hasattr(x, "columns") or hasattr(x, "column_names"):
        return _frame(x, values.double().numpy(), fields) if fields else x
    values = values.reshape(x.shape if hasattr(x, "shape") else np.shape(x))
    return values.to(x) if isinstance(x, Tensor) else values.numpy()


def _frame(frame: Any, x: NDArray[np.float64], fields: Sequence[Field]) -> Any:
    """Return a data frame with the values x (N, M) where its own are missing."""
    table = as_frame(frame)
    filled, found = collapse(x, fields), {}
    for field in fields:
        column: Any = table[field.name]
        if column.isna().any():
            found[field.name] = _column(column, filled[field.name], field)
    if hasattr(frame, "with_columns"):  # polars
        return frame.with_columns(*(type(frame[name])(name, values.tolist()) for name, values in found.items()))
    if hasattr(frame, "column_names"):  # pyarrow
        return type(frame).from_pandas(table.assign(**found), preserve_index=False)
    return table.assign(**found).set_axis(frame.columns, axis=1)


def _column(column: Any, values: NDArray[Any], field: Field) -> Any:
    """Return a column with values (N,) of `collapse` where its own are missing: a level as the column spells it."""
    lost = column.isna()
    if field.levels:
        there = column[~lost].drop_duplicates()
        spelt = dict(zip(collapse(expand(there.to_frame(), [field]), [field])[field.name], there, strict=True))
        values = np.array([spelt.get(value, value) for value in values], dtype=object)
    elif field.likelihood == "bernoulli":
        values = values > 0.5 if column[~lost].infer_objects().dtype.kind == "b" else np.round(values)
    if column.dtype.kind in "iu":
        column = column.astype(float)  # an expected count is not whole
    return column.mask(lost, values)
