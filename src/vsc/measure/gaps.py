"""How well a model fills in what is missing: values that are there are hidden from it, and compared."""

from typing import TYPE_CHECKING

import numpy as np

from vsc.model import Autoencoder

if TYPE_CHECKING:
    from pandas import DataFrame

FEWEST = 10
"""Hidden values of a column from which on its error is told."""


def hidden_errors(
    model: Autoencoder, frame: "DataFrame", draws: int = 200, seed: int = 0, share: float = 0.2, most: int = 1000
) -> dict[str, float]:
    """
    Hide some of the values that are there, fill them in, and say how far off that is.

    Parameters
    ----------
    model : Autoencoder
        Of a table with missing values.
    frame : pandas.DataFrame
        Its columns; of more rows than `most`, as many spread evenly.
    draws, seed
        As for `Autoencoder.impute`; the seed also chooses what is hidden.
    share : float
        Of the values, to hide.
    most : int
        Rows.

    Returns
    -------
    dict of str to float
        For each column with at least 10 hidden values: the root mean squared error, divided by that of the mean of the
        values left; of a column of levels the share that is wrong, by that of the commonest. Above 1 the model's guess
        is the worse one.
    """
    rows = frame.iloc[np.linspace(0, len(frame) - 1, min(len(frame), most)).round().astype(int)]
    hide = rows.notna().to_numpy() & (np.random.default_rng(seed).random(rows.shape) < share)
    left = rows.mask(hide)
    guess = model.impute(left, draws, seed)
    errors = {}
    for field, there in zip(model.fields, hide.T, strict=True):
        if there.sum() < FEWEST or not left[field.name].notna().any():
            continue
        truth, told, known = rows[field.name][there], guess[field.name][there], left[field.name].dropna()
        if field.levels:
            off, plain = (told != truth).mean(), (truth != known.mode()[0]).mean()
        else:
            truth, told, known = (part.astype(float) for part in (truth, told, known))
            off, plain = (float(np.sqrt(((guess - truth) ** 2).mean())) for guess in (told, known.mean()))
        errors[field.name] = float(off / plain) if plain > 0 else float("inf" if off > 0 else 0)
    return errors
