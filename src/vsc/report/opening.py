"""The pictures that a comparison opens with: inputs taken apart, one latent, that latent off, and what gates detect."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vsc.measure.detectors import Detected
from vsc.measure.showcase import choose_examples
from vsc.report import cards, examples, lines, sprites
from vsc.report.cards import Images
from vsc.report.entry import Entry
from vsc.report.lead import Contest
from vsc.report.material import Bar, Material, bars, percent
from vsc.report.words import largest, measure, number

INPUTS = 4  # shown with the latents that make them
HEIGHT = 72  # of images, CSS pixels
STRONGEST = 4  # inputs shown for a detector


def pictures(m: Material, found: Detected | None) -> dict[str, Any]:
    """
    Collect what the template shows of the lead: inputs taken apart, one latent's card, and that latent off.

    `m` is the lead, and `found` what its gates detect: the latent is then the best detector of an attribute.
    """
    chosen = choose_examples(m.seen.part, INPUTS).tolist()
    out: dict[str, Any] = {
        "m": m,
        "scale": sprites.legend() if m.kind == "images" else None,
        "peak": number(m.peak, ".2g"),
        "inputs": [examples.example(m, i, (HEIGHT, HEIGHT)) for i in chosen],
        "card": None,
        "off": None,
    }
    if len(m.found.shown):
        k, why = telling(m, found)
        out |= {"card": cards.card(m, k, HEIGHT), "why": why, "off": switched_off(m, k)}
    return out


def telling(m: Material, found: Detected | None = None) -> tuple[int, str]:
    """
    Choose a used latent of `m` to show, and say why it.

    Where attributes are known, that of the best detector in `found`; else that which is worth most to inputs that have
    it on, of those that choose, if there are any.
    """
    if found is not None and not found.classes:
        place = {int(j): k for k, j in enumerate(m.found.shown)}
        order = np.argsort(-found.best.auroc, kind="stable")
        for g in order:
            if int(found.best.latent[g]) in place:
                return place[int(found.best.latent[g])], f"the one that tells best of an attribute, {found.names[g]}"
    rate, worth = m.found.rate[m.found.shown], m.moved.drop
    chooses = rate <= 0.5
    if not chooses.any():
        return int(np.argmax(worth)), "the one that is worth most to the inputs that have it on"
    why = (
        "of those that are on for at most half of the inputs, the one that is worth most to the inputs that have it on"
    )
    return int(np.argmax(np.where(chooses, worth, -np.inf))), why


def switched_off(m: Material, k: int) -> dict[str, Any]:
    """Show what is left of the input that the k-th used latent of `m` is strongest for when it alone is off."""
    j = int(m.found.shown[k])
    ends = m.ends.highest[k] if m.moved.positive[k] >= 0.5 else m.ends.lowest[k]
    i = int(ends[0]) if ends[0] >= 0 else int(m.swept.example[k])
    parts = m.seen.parts(i)
    a = int(np.flatnonzero(parts.latent == j)[0])
    change, there, drop = parts.change[a], parts.reconstruction, float(parts.drop[a])
    words = {
        "latent": j,
        "number": m.seen.row(i),
        "label": m.label(i),
        "value": number(float(parts.value[a]), ".1f"),
        "moves": f"{'falls' if drop >= 0 else 'rises'} by {number(abs(drop), '.1f')} nats",
    }
    x, without = m.x[i], there - change * m.each
    if m.kind == "images":
        ticks = ["input", f"with latent {j}", "without it"]
        alt = f"Input {words['number']}, its reconstruction, and the same with latent {j} off: the error grows from "
        alt += f"{number(_error_of(there, x), '#.3g')} to {number(_error_of(without, x), '#.3g')}."
        triple = sprites.examples(np.stack([x, there, without]), m.shape, m.limits, 96)
        gone = sprites.differences(-change[None], m.shape, m.peak, 96)
        said = f"Without latent {j} less with it; mean size {number(float(np.abs(change).mean()), '.2g')}."
        return words | {"triple": Images(triple, alt, "", ticks), "gone": Images(gone, said, "", ["difference"])}
    if m.kind == "signals":
        charts = []
        curves = [part.reshape(tuple(m.shape)) for part in (x, there, without)]
        for c in largest(np.abs(change).reshape(tuple(m.shape)).max(-1), 3):
            alt = f"Input {words['number']}, channel {c}, its reconstruction with latent {j} and without it."
            three = list(zip(("off", "high", "low"), (curve[c] for curve in curves), strict=True))
            charts.append(lines.chart(three, m.channel_limits[c], alt, f"channel {c}"))
        return words | {"charts": charts}
    columns = largest(change, cards.COLUMNS)
    stored = [m.stored(part) for part in (x, there, without)]
    return words | {
        "values": [[m.names[c], *(measure(float(part[c])) for part in stored)] for c in columns],
        "bars": bars([-float(change[c]) for c in columns], [m.names[c] for c in columns],
                     [number(-float(change[c]), "+.2f") for c in columns]),
    }  # fmt: skip


def _error_of(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((a - b) ** 2))


class Told(NamedTuple):
    """One line of the table of detectors."""

    name: str  # what is detected
    share: str  # how many inputs have it
    latent: int  # the lead's best latent
    picture: Images | None  # what that latent does, where it is used and there are images
    strongest: Images | None  # the inputs that it is strongest for
    words: Sequence[Bar]  # the same for tables
    hits: str  # of its gate, as printed; empty where there is none
    alarms: str
    precision: str
    auroc: Sequence[str]  # of each model's best latent


def detectors(models: Sequence[Entry], contest: Contest, m: Material) -> list[Told]:
    """Lay out what single latents detect: the lead's, whose pictures come from `m`, beside the other models' best."""
    found = models[contest.lead].detected
    if found is None:
        return []
    best, place = found.best, {int(j): k for k, j in enumerate(m.found.shown)}
    out = []
    for g, name in enumerate(found.names):
        j = int(best.latent[g])
        k, picture, strongest, words = place.get(j), None, None, []
        if k is not None and m.kind == "images":
            sprite = sprites.differences(m.moved.change[k][None], m.shape, m.peak, 48)
            picture = Images(sprite, f"What latent {j}, the best detector of {name}, does to the output.", "", [])
            ends = (m.ends.highest if m.moved.positive[k] >= 0.5 else m.ends.lowest)[k]
            top = ends[ends >= 0][:STRONGEST]
            if len(top):
                alt = f"The {len(top)} inputs that latent {j}, the best detector of {name}, is strongest for."
                strongest = Images(sprites.examples(m.x[top], m.shape, m.limits, 48), alt, "", [])
        elif k is not None and m.kind == "table":
            columns = largest(m.moved.change[k], 2)
            sizes = [float(m.moved.change[k][c]) for c in columns]
            words = bars(sizes, [m.names[c] for c in columns], [number(v, "+.2f") for v in sizes])
        told = {key: _share(getattr(best, key), g) for key in ("hits", "alarms", "precision")}
        aurocs = [number(float(one.detected.best.auroc[g]), ".3f") if one.detected else "–" for one in models]
        out.append(Told(name, percent(float(found.share[g])), j, picture, strongest, words, auroc=aurocs, **told))
    return out


def _share(values: np.ndarray | None, g: int) -> str:
    return "–" if values is None or np.isnan(values[g]) else percent(float(values[g]))
