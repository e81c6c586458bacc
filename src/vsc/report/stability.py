"""Which latents come back with other seeds: a column of the table, and a section of the page."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vsc import plots
from vsc.measure.returning import COMES_BACK, Returning
from vsc.report import settings
from vsc.report.entry import Entry
from vsc.report.figures import Picture, picture
from vsc.report.scores import Cell, Column
from vsc.report.words import most_changed, number

MOST = 36
"""Latents that are shown."""


class Section(NamedTuple):
    """The latents of one model's first run, and their matches in the other runs."""

    sentence: str  # how many come back
    more: str  # how that was found
    picture: Picture | None  # their effects, for images
    heads: Sequence[str]  # the same in words, for other data: a list of cells for each latent
    rows: Sequence[Sequence[str]]


COLUMN = Column(
    *("stability", "Seeds", "cosine", "stability", lambda _: None, "higher", ".2f"),
    why="mean cosine of what a latent does in one seed and its match in another; 0 for one without a match",
    missing="not trained with several seeds",
)


def beside(
    columns: list[Column], table: list[list[Cell]], found: Sequence[Returning | None]
) -> tuple[list[Column], list[list[Cell]]]:
    """Put the column of stability beside the `columns` of a `table`, where models were trained with several seeds."""
    if not any(found):
        return columns, table
    values = [None if one is None else one.effects for one in found]
    texts = ["–" if value is None else number(value) for value in values]
    known = [number(value) for value in values if value is not None]
    best = max(known, key=float) if len(set(known)) > 1 else None
    cells = [
        Cell(text, value, text == best, COLUMN.missing if value is None else "")
        for text, value in zip(texts, values, strict=True)
    ]
    cells += [Cell("–", None, False, "there are no latents")] * (len(table) - len(cells))
    return [*columns, COLUMN], [[*row, cell] for row, cell in zip(table, cells, strict=True)]


def section(entries: Sequence[Entry], shape: Sequence[int], features: Sequence[str]) -> Section | None:
    """Return the section on the model `vsc`, or the first of several seeds; None where there is none."""
    several = sorted((one for one in entries if one.returning is not None), key=lambda one: one.name != "vsc")
    if not several or (found := several[0].returning) is None:
        return None
    label, seed = several[0].title, int(settings.flatten(several[0].settings).get("train.seed", 0))
    S, K = found.cosine.shape
    sentence = (
        f"{found.come_back} of {K} latents of {label} come back in every seed (cosine ≥ {COMES_BACK})."
        if K
        else f"{label} uses no latent."
    )
    seeds = [f"seed {seed + s}" for s in range(S + 1)]
    order = np.argsort(-found.cosine.min(0), kind="stable")
    order = order[np.linspace(0, K - 1, min(K, MOST)).round().astype(int)] if K else order
    more = (
        f"The used latents of {seeds[0]} are matched one to one with those of each other seed by what they do to the "
        "output; one without a match counts 0. Over all pairs of seeds and all used latents of both, the mean cosine "
        f"is {number(found.effects)}; matched by their codes on the same inputs instead, the mean correlation is "
        f"{number(found.codes)}. Build on a latent only if it comes back."
        + (f" Shown are {MOST} of the {K}, evenly from the most to the least alike." if K > MOST else "")
    )
    if len(shape) == 3 and shape[0] in (1, 3):
        return Section(sentence, more, _picture(found, order, seeds, label, shape) if K else None, (), ())
    rows = [
        [f"latent {found.first.latent[k]}", most_changed(found.first.change[k], features)]
        + [_words(found, s, k, features) for s in range(S)]
        for k in order
    ]
    return Section(sentence, more, None, ["Latent", *seeds], rows)


def _words(found: Returning, s: int, k: int, features: Sequence[str]) -> str:
    if found.other[s, k] < 0:
        return "no match"
    return f"cosine {number(found.cosine[s, k])}: {most_changed(found.change[s, k], features)}"


def _picture(found: Returning, order: np.ndarray, seeds: list[str], label: str, shape: Sequence[int]) -> Picture:
    change = np.concatenate([found.first.change[None], found.change])[:, order].swapaxes(0, 1)
    told = [
        [f"latent {found.first.latent[k]}"]
        + ["no match" if found.other[s, k] < 0 else number(found.cosine[s, k]) for s in range(len(seeds) - 1)]
        for k in order
    ]
    alt = f"What single latents of {label} do to the output in {seeds[0]}, and what their matches do in the others. "
    alt += "; ".join(f"{one[0]}: cosine {', '.join(one[1:])}" for one in told[:6]) + "."
    caption = (
        f"Each group is one latent: how it changes the output in {', '.join(seeds)}, with the cosine to the first "
        "above. Red is more, blue less. Those that come back are first. Raising a latent has no sign of its own, so "
        "matches of raised latents are turned to the same side."
    )
    return picture(plots.effects_in_runs(change, told, shape), alt, caption)
