"""How a comparison opens, in numbers and words: what the sparse code of one model buys, and what it costs."""

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

from vsc.report.entry import Entry
from vsc.report.words import listing, number


class Contest(NamedTuple):
    """Who is compared at equal non-zeros."""

    lead: int  # place among the models of the sparse one that the page opens with
    dense: int | None  # the dense one of as many latents
    small: int | None  # the dense one of as many latents as an input of the lead has on
    kept: int  # that number


class Row(NamedTuple):
    """One code in the table at equal non-zeros; None where there is no such number."""

    label: str  # whose code, and how much of it
    nonzeros: float  # mean number of non-zeros of an input
    mse: float | None  # error per output
    probe: float | None  # accuracy of a linear classifier that sees the non-zeros only
    elbo: float | None  # nats per example; of whole codes only
    equal: bool  # whether it has as few non-zeros as the lead


class Finding(NamedTuple):
    """One number with its words."""

    topic: str  # what it is about
    value: str  # the number as printed
    unit: str  # what it counts
    text: str  # a sentence or two


def rows(models: Sequence[Entry], contest: Contest) -> list[Row]:
    """Return the codes that are compared at equal non-zeros, the lead's first, then the whole dense code and none."""
    lead, out = models[contest.lead], []
    for i in (contest.lead, contest.small):
        if i is not None and models[i].frontier is not None:
            out.append(_row(models[i].title, models[i], -1, models[i].mean.elbo, True))
    if contest.dense is not None and (whole := models[contest.dense].frontier) is not None:
        dense = models[contest.dense]
        if (at := whole.at(contest.kept)) is not None:
            out.append(_row(f"{dense.title}, cut to its {contest.kept} largest", dense, at, None, True))
        out.append(_row(f"{dense.title}, all {dense.latent_dim}", dense, -1, dense.mean.elbo, False))
    if lead.mean.no_latents is not None:
        mse = None if lead.seen is None else lead.seen.no_latents[1]
        out.append(Row("no latents", 0, mse, None, lead.mean.no_latents, False))
    return out


def _row(label: str, model: Entry, at: int, elbo: float | None, equal: bool) -> Row:
    f = model.frontier
    assert f is not None
    probe = None if f.probe is None else float(f.probe[at])
    return Row(label, float(f.nonzeros[at]), float(f.mse[at]), probe, elbo, equal)


def findings(models: Sequence[Entry], contest: Contest) -> list[Finding]:
    """Say what the lead's code buys and what it costs; whatever the numbers say, and none that they do not hold."""
    lead = models[contest.lead]
    found = [_few(lead), _own(lead), _cost(lead, None if contest.dense is None else models[contest.dense])]
    table = [row for row in rows(models, contest) if row.equal]
    if lead.mean.used and len(table) > 1:
        found += [_error(table), _probe(table)]
    found.append(_detected(lead, None if contest.dense is None else models[contest.dense]))
    return [one for one in found if one is not None]


def _few(lead: Entry) -> Finding | None:
    active, J = lead.mean.active, lead.latent_dim
    if not lead.mean.used:
        text = "No latent is in use: this code is the same for every input, and says nothing of it."
    elif active > 0.75 * J:
        text = "An input has most of the latents on: this code is not sparse."
    else:
        text = f"An input is described by so many numbers, on average; its other {number(J - active, '.1f')} are zero."
    return Finding("Few", number(active, ".1f"), f"of {J} latents per input", text)


def _own(lead: Entry) -> Finding | None:
    used, always = lead.mean.used, lead.mean.always_on
    if not used:
        return None
    some = number(used - always, ".0f")
    if always >= used:
        text = "All of these are on for every input: which ones are on says nothing."
    elif always > used / 2:
        text = f"Most of these are on for every input; only {some} choose, and are on for some inputs alone."
    else:
        text = f"Each input has its own: {some} are on for some inputs and off for others."
    return Finding("Its own", number(used, ".0f"), f"latents in use, {number(always, '.0f')} always on", text)


def _cost(lead: Entry, dense: Entry | None) -> Finding | None:
    own, base = lead.mean.elbo, lead.mean.no_latents
    against = None if dense is None else dense.mean.elbo
    if own is None or not isfinite(own):
        return None
    without = "" if base is None else f" The best without any latent has {number(base)}."
    if dense is None or against is None or not isfinite(against):
        return Finding("Bound", number(own), "nats of ELBO per input", without.strip()) if without else None
    size = number(abs(own - against), ".1f")
    noise = max((one.spread.elbo or 0.0 for one in (lead, dense) if one.spread is not None), default=0.0)
    verb = "is level in" if size == "0.0" else f"{'gains' if own > against else 'costs'} {size} nats of"
    text = f"The sparse code {verb} ELBO: {number(own)} nats per input, and {number(against)} of {dense.title}"
    text += ", less than seeds differ." if 0 < abs(own - against) < noise else "."
    return Finding("Bound", number(own - against, "+.1f"), f"nats against {dense.title}", text + without)


def _error(table: Sequence[Row]) -> Finding | None:
    own, others = table[0], [row for row in table[1:] if row.mse is not None and isfinite(row.mse)]
    if own.mse is None or not isfinite(own.mse) or not others:
        return None
    first = others[0].mse
    assert first is not None
    change = f"{number(100 * (own.mse / first - 1), '+.0f')} %" if first else number(own.mse, "#.3g")
    told = _against(own.mse, [(row.label, row.mse or 0.0) for row in others], "#.3g", "")
    text = f"With {number(own.nonzeros, '.1f')} non-zeros per input its squared error is {told}."
    return Finding("Error", change, f"error against {others[0].label}", text)


def _probe(table: Sequence[Row]) -> Finding | None:
    own, others = table[0], [row for row in table[1:] if row.probe is not None]
    if own.probe is None or not others:
        return None
    told = _against(100 * own.probe, [(row.label, 100 * (row.probe or 0.0)) for row in others], ".1f", " %")
    points = number(100 * (own.probe - (others[0].probe or 0.0)), "+.1f")
    text = f"From these non-zeros alone, a linear classifier names the right class for {told}."
    return Finding("Classes", points, f"points of accuracy against {others[0].label}", text)


def _against(own: float, others: Sequence[tuple[str, float]], spec: str, unit: str) -> str:
    """Print a number beside others, with which is higher as printed."""
    mine, parts = number(own, spec), []
    for label, value in others:
        text = number(value, spec)
        how = "as in" if text == mine else "higher than" if own > value else "lower than"
        parts.append(f"{how} {label}" + ("" if text == mine else f" ({text}{unit})"))
    return f"{mine}{unit}, {listing(parts)}"


def _detected(lead: Entry, dense: Entry | None) -> Finding | None:
    found = lead.detected
    if found is None or found.classes or not lead.mean.used:
        return None
    text = f"How well the best gate for each of {len(found.names)} attributes tells that it is there; 0.5 is chance."
    if dense is not None and dense.detected is not None:
        text += f" The best latents of {dense.title} have {number(float(dense.detected.best.auroc.mean()), '.3f')}."
    return Finding("Presence", number(float(found.best.auroc.mean()), ".3f"), "mean AUROC of its gates", text)
