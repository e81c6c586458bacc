"""The table of latents: one row for each used latent, sortable in the page."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from vsc.report.cards import top_class
from vsc.report.material import Material, percent
from vsc.report.words import largest, listing, most_changed, number


class Sorted(NamedTuple):
    """What stands in a cell."""

    text: str  # as printed
    value: float | str  # what it is sorted by


class Aspect(NamedTuple):
    """One column of the table."""

    title: str
    unit: str  # may be empty
    why: str  # what the column says, in one sentence
    of: Callable[[int], Sorted]  # what it says of the k-th used latent
    words: bool = False  # whether it holds words, which sort upwards first


def worth_most(m: Material, most: int = 3) -> str:
    """Name the used latents that are worth most to an input, and say what they are about; of none, nothing."""
    total = np.nan_to_num(m.moved.rate * m.moved.drop)
    told = []
    for k in np.argsort(-total, kind="stable")[:most]:
        worth = f"on for {percent(float(m.moved.rate[k]))}, worth {number(float(m.moved.drop[k]), '.1f')} nats there"
        does = f" {most_changed(m.moved.change[k], m.features)}" if m.kind == "table" else ""
        about = f"{shown}, " if not does and (shown := hint(m, int(k))) else ""
        told.append(f"latent {m.moved.latent[k]} ({about}{worth}){does}")
    return f"Worth most over all inputs: {'; '.join(told) if m.kind == 'table' else listing(told)}." if told else ""


def aspects(m: Material) -> list[Aspect]:
    """Say which columns the table has, the latent's number first."""
    f, moved, shown = m.found, m.moved, m.found.shown
    on = "of the inputs that have the latent on" if f.gated else "of the inputs"
    out = [Aspect("Latent", "", "number, counted from 0", lambda k: Sorted(str(shown[k]), int(shown[k])))]
    if f.gated:
        rates = f.rate[shown]
        why = "share of the inputs with a spike probability above 1/2"
        out += [
            Aspect("On for", "% of inputs", why, lambda k: Sorted(percent(float(rates[k])), float(rates[k]))),
            Aspect("Size", "mean |value|", "mean absolute value where the latent is on", _numbers(f.size[shown])),
        ]
    else:
        why = "variance of the mean code over the inputs"
        out += [Aspect("Variance", "of its code", why, _numbers(f.variance[shown]))]
    if f.kl is not None:
        why = "its part of the KL, averaged over all inputs"
        out += [Aspect("Costs", "nats per input", why, _numbers(f.kl[shown]))]
    why = f"how much log p(x|z) drops without it, in the median {on}"
    out += [
        Aspect("Worth", "nats", why, _numbers(moved.drop, ".1f")),
        Aspect("Effect", "RMS per output", f"how far the output moves without it, in {m.unit}",
               _numbers(moved.effect, ".3f")),
    ]  # fmt: skip
    if m.profile is not None:
        why = "the class that it is on for most often" if f.gated else "the class that it sets apart most"
        out += [Aspect("Class", "and its rate" if f.gated else "and its mean", why, partial(_class, m), True)]
    if m.kind == "table":
        how = "on instead of off, or raised where its values have both signs" if f.gated else "raised"
        out += [Aspect("Columns", "that it moves most", f"{how}, in {m.unit}", partial(_columns, m), True)]
    if m.kind == "text":
        out += [Aspect("Pieces", "of texts", "what its strongest inputs are most often", partial(_pieces, m), True)]
    return out


def _numbers(values: np.ndarray, spec: str = ".2f") -> Callable[[int], Sorted]:
    return lambda k: Sorted(number(float(values[k]), spec), float(values[k]))


def _class(m: Material, k: int) -> Sorted:
    name, rate = top_class(m, k)
    return Sorted(f"{name} ({rate})" if rate else name, name)


def _columns(m: Material, k: int) -> Sorted:
    change = m.moved.change[k]
    words = [f"{m.names[c]} {number(float(change[c]), '+.2f')}" for c in largest(change, 3)]
    return Sorted(", ".join(words), words[0])


def _pieces(m: Material, k: int) -> Sorted:
    words = [f"{piece} {percent(share)}" for piece, share in m.pieces[k][:3]]
    return Sorted(", ".join(words), words[0] if words else "")


def groups(m: Material) -> list[str]:
    """Return what the latents can be picked by, one for each: the class, else the column that it moves most."""
    K = range(len(m.found.shown))
    if m.profile is not None:
        return [top_class(m, k)[0] for k in K]
    return [m.names[largest(m.moved.change[k], 1)[0]] for k in K] if m.kind == "table" else ["" for _ in K]


def hint(m: Material, k: int) -> str:
    """Say in two words what the k-th used latent is about: a column that it moves, a piece or a class; or nothing."""
    if m.kind == "text":
        return next((piece for piece, _ in m.pieces[k]), "")
    if m.kind == "table":
        change = m.moved.change[k]
        c = largest(change, 1)[0]
        return f"{m.names[c]} {'−' if change[c] < 0 else '+'}"
    name, rate = top_class(m, k)
    return "" if not rate else f"class {name}" if len(name) <= 3 else name
