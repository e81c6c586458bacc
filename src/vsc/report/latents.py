"""The table of latents: one row for each used latent, sortable in the page."""

from typing import NamedTuple

import numpy as np

from vsc.report.cards import top_class
from vsc.report.material import Material, percent
from vsc.report.words import largest, listing, most_changed, number


class Heading(NamedTuple):
    """Heading of a column."""

    key: str  # stable name
    title: str
    unit: str  # may be empty
    why: str  # what the column says, in one sentence
    words: bool = False  # whether it holds words, which sort upwards first


class Cell(NamedTuple):
    """One cell."""

    text: str  # as printed
    value: float | str  # what it is sorted by


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


def headings(m: Material) -> list[Heading]:
    """Say which columns the table has, the latent's number first."""
    on = "of the inputs that have the latent on" if m.found.gated else "of the inputs"
    out = [Heading("latent", "Latent", "", "number, counted from 0")]
    if m.found.gated:
        out += [
            Heading("rate", "On for", "% of inputs", "share of the inputs with a spike probability above 1/2"),
            Heading("size", "Size", "mean |value|", "mean absolute value where the latent is on"),
        ]
    else:
        out += [Heading("variance", "Variance", "of its code", "variance of the mean code over the inputs")]
    if m.found.kl is not None:
        out += [Heading("kl", "Costs", "nats per input", "its part of the KL, averaged over all inputs")]
    out += [
        Heading("worth", "Worth", "nats", f"how much log p(x|z) drops without it, in the median {on}"),
        Heading("effect", "Effect", "RMS per output", f"how far the output moves without it, in {m.unit}"),
    ]
    if m.profile is not None:
        why = "the class that it is on for most often" if m.found.gated else "the class that it sets apart most"
        out += [Heading("class", "Class", "and its rate" if m.found.gated else "and its mean", why, True)]
    if m.kind == "table":
        how = "on instead of off, or raised where its values have both signs" if m.found.gated else "raised"
        out += [Heading("columns", "Columns", "that it moves most", f"{how}, in {m.unit}", True)]
    if m.kind == "text":
        out += [Heading("pieces", "Pieces", "of texts", "what its strongest inputs are most often", True)]
    return out


def rows(m: Material) -> list[list[Cell]]:
    """Fill the table: a list of cells for each used latent, in the order of `headings`."""
    return [[_cell(m, k, heading.key) for heading in headings(m)] for k in range(len(m.found.shown))]


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


def _cell(m: Material, k: int, key: str) -> Cell:
    j, f = int(m.found.shown[k]), m.found
    if key == "latent":
        return Cell(str(j), j)
    if key == "rate":
        return Cell(percent(float(f.rate[j])), float(f.rate[j]))
    if key == "class":
        name, rate = top_class(m, k)
        return Cell(f"{name} ({rate})" if rate else name, name)
    if key == "pieces":
        words = [f"{piece} {percent(share)}" for piece, share in m.pieces[k][:3]]
        return Cell(", ".join(words), words[0] if words else "")
    if key == "columns":
        change = m.moved.change[k]
        words = [f"{m.names[c]} {number(float(change[c]), '+.2f')}" for c in largest(change, 3)]
        return Cell(", ".join(words), words[0])
    value = {
        "size": f.size[j],
        "variance": f.variance[j],
        "kl": np.nan if f.kl is None else f.kl[j],
        "worth": m.moved.drop[k],
        "effect": m.moved.effect[k],
    }[key]
    return Cell(number(float(value), {"worth": ".1f", "effect": ".3f"}.get(key, ".2f")), float(value))
