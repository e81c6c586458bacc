"""The table of scores: which columns there are, in what unit, and what is best in each."""

from collections.abc import Callable, Sequence
from math import isfinite, isnan
from typing import Literal, NamedTuple

from vsc.measure.scores import Scores
from vsc.report.words import number


class Column(NamedTuple):
    """One column of the table."""

    key: str  # stable name, unique in the table
    group: str  # heading above several columns
    unit: str  # theirs
    title: str  # the column's own heading
    value: Callable[[Scores], float | None]
    # None where no end is better: a KL of zero or an l0 of zero is a collapsed model, not a good one
    better: Literal["higher", "lower"] | None
    spec: str  # format specification
    why: str  # what the column says, in one sentence
    missing: str = "not measured"  # why a cell can be empty


class Cell(NamedTuple):
    """One cell of the table."""

    text: str  # the number as printed, "–" where there is none
    value: float | None  # the number in full
    best: bool  # whether it is the best of its column
    why: str  # why there is no number; empty where there is one
    spread: str = ""  # "±0.12", the standard deviation over seeds as printed; empty where there is none


def _percent(scores: Scores) -> float | None:
    return None if scores.probe is None else 100 * scores.probe


def _gap(scores: Scores) -> float | None:
    if scores.relaxed_elbo is None or scores.elbo is None:
        return None
    return scores.relaxed_elbo - scores.elbo


_BOUND, _CODE, _ERROR, _NOISE, _PROBE = "Bound", "Code", "Error", "Denoising", "Probe"
_NO_BOUND = "an autoencoder has no KL and so no bound"
_NO_SPIKES = "this model has no spikes"
_NO_RELAXATION = "this model was not trained with relaxed spikes"
COLUMNS = (
    Column("elbo", _BOUND, "nats per example", "ELBO", lambda s: s.elbo, "higher", ".2f",
           "evidence lower bound, with hard spikes", _NO_BOUND),
    Column("relaxed", _BOUND, "nats per example", "relaxed", lambda s: s.relaxed_elbo, None, ".2f",
           "the same sum with the relaxed spikes of training; not a bound", _NO_RELAXATION),
    Column("gap", _BOUND, "nats per example", "gap", _gap, None, "+.2f",
           "relaxed minus hard: what the relaxation pretends", _NO_RELAXATION),
    Column("no_latents", _BOUND, "nats per example", "no latents", lambda s: s.no_latents, None, ".2f",
           "log p of the best constant output: what a model without latents scores"),
    Column("log_px", _BOUND, "nats per example", "log p(x|z)", lambda s: s.log_px, "higher", ".2f",
           "how well the code explains the input, before its cost"),
    Column("kl_slab", _BOUND, "nats per example", "KL slab", lambda s: s.kl_slab, None, ".2f",
           "cost of the latents' values", _NO_BOUND),
    Column("kl_spike", _BOUND, "nats per example", "KL spike", lambda s: s.kl_spike, None, ".2f",
           "cost of which latents are on", _NO_SPIKES),
    Column("kl_selection", _BOUND, "nats per example", "KL choice", lambda s: s.kl_selection, None, ".2f",
           "cost of choosing a component of the prior", _NO_BOUND),
    Column("active", _CODE, "latents", "active per input", lambda s: s.active, None, ".2f",
           "mean number of latents per example with a spike probability above 1/2"),
    Column("l0", _CODE, "latents", "l0", lambda s: s.l0, None, ".2f",
           "sum of the spike probabilities of an example, those of unused latents included"),
    Column("used", _CODE, "latents", "used", lambda s: s.used, None, ".0f",
           "latents active on more than 1 % of the examples"),
    Column("always_on", _CODE, "latents", "always on", lambda s: s.always_on, None, ".0f",
           "latents active on more than 99 % of the examples"),
    Column("dead", _CODE, "latents", "dead", lambda s: s.dead, None, ".0f",
           "latents active on less than 0.01 % of the examples"),
    Column("mse", _ERROR, "per output", "MSE", lambda s: s.mse, "lower", "#.3g",
           "squared error of the reconstruction from the hard code"),
    Column("fvu", _ERROR, "of the variance", "FVU", lambda s: s.fvu, "lower", ".3f",
           "fraction of variance unexplained, in stored units", "for Gaussian likelihoods of vectors alone"),
    Column("denoise_mse", _NOISE, "", "MSE", lambda s: s.denoise_mse, "lower", "#.3g",
           "squared error per output against the clean input, from the noisy input"),
    Column("denoise_psnr", _NOISE, "", "PSNR, dB", lambda s: s.denoise_psnr, "higher", ".2f",
           "the same as a peak signal-to-noise ratio (PSNR)"),
    Column("noisy_psnr", _NOISE, "", "input, dB", lambda s: s.noisy_psnr, None, ".2f",
           "PSNR of the noisy input itself: what doing nothing scores"),
    Column("probe", _PROBE, "% correct", "accuracy", _percent, "higher", ".1f",
           "test accuracy of a linear classifier on the mean codes", "the data have no labels"),
)  # fmt: skip


def columns(rows: Sequence[Scores]) -> list[Column]:
    """Return the columns to show: the relaxed bound, its gap, the choice of a component only if some model has one."""
    relaxed = any(row.relaxed_elbo is not None for row in rows)
    chosen = any(row.kl_selection for row in rows)
    hidden = (set() if relaxed else {"relaxed", "gap"}) | (set() if chosen else {"kl_selection"})
    hidden |= set() if any(row.fvu is not None for row in rows) else {"fvu"}
    hidden |= {"no_latents"} if len(rows) > 1 else set()  # a row of its own
    return [column for column in COLUMNS if column.key not in hidden]


def table(rows: Sequence[Scores], spreads: Sequence[Scores | None] = ()) -> list[list[Cell]]:
    """
    Fill the table, a list of cells per model, and mark the best of each column; spreads are deviations over seeds.

    Cells that print alike are equally good: nobody should read a ranking into digits that are not shown.
    Nothing is marked where fewer than two models have a number or where all print the same.
    """
    spreads = spreads or [None] * len(rows)
    return [list(row) for row in zip(*(_cells(column, rows, spreads) for column in columns(rows)), strict=True)]


def _cells(column: Column, rows: Sequence[Scores], spreads: Sequence[Scores | None]) -> list[Cell]:
    values = [column.value(row) for row in rows]
    texts = ["–" if value is None else number(value, column.spec) for value in values]
    reasons = ["there are no latents" if row.mse is None else column.missing for row in rows]
    known = {text: value for text, value in zip(texts, values, strict=True) if value is not None and not isnan(value)}
    best = None
    if column.better and len(known) > 1:
        best = (max if column.better == "higher" else min)(known, key=lambda text: known[text])
    return [
        Cell(
            text,
            value,
            text == best,
            missing if value is None else "" if isfinite(value) else "not finite",
            _spread(column, spread),
        )
        for text, value, missing, spread in zip(texts, values, reasons, spreads, strict=True)
    ]


def _spread(column: Column, spread: Scores | None) -> str:
    # the gap is a difference of two scores that vary together: its spread does not follow from theirs
    value = None if spread is None or column.key == "gap" else column.value(spread)
    spec = {".0f": ".1f", "#.3g": ".1g"}.get(column.spec, column.spec)
    return "" if value is None else f"±{number(value, spec)}"
