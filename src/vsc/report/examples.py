"""Single examples: the input, its code, its reconstruction, and what each active latent is worth to it."""

from typing import Any

import numpy as np

from vsc.measure.effects import Parts
from vsc.report import lines, sprites
from vsc.report.cards import Images
from vsc.report.material import Bar, Material, bars
from vsc.report.words import largest, measure, number

LATENTS = 16  # listed for an example, those that it needs most
COLUMNS = 12  # of a table, shown for an example
ADDED = 8  # latents whose part of the reconstruction is shown, those that the example needs most
MOVED = 4  # columns of a table that are shown of such a part


def example(m: Material, i: int, heights: tuple[int, int] = (96, 56)) -> dict[str, Any]:
    """
    Collect what the template shows of the i-th example of the split of `m`: what each latent does for it.

    The `heights` are those of images on the page, CSS pixels: of the example and of the differences.
    """
    parts = m.seen.parts(i)
    listed = list(range(min(len(parts.latent), LATENTS)))
    used = set(m.found.shown.tolist())
    values = [float(parts.value[a]) for a in listed]
    drops = [float(parts.drop[a]) for a in listed]
    names = [str(int(parts.latent[a])) for a in listed]

    def linked(found: list[Bar]) -> list[Bar]:
        return [bar._replace(latent=int(bar.label) if int(bar.label) in used else None) for bar in found]

    return {
        "number": m.seen.row(i),
        "label": m.label(i),
        "active": len(parts.latent),
        "log_px": number(parts.log_px, ".1f"),
        "empty": number(parts.empty, ".1f"),
        "code": linked(bars(values, names, [number(v, "+.2f") for v in values])),
        "drops": linked(bars(drops, names, [number(v, "+.1f") for v in drops])),
        "rest": len(parts.latent) - len(listed),
        **(
            _images(m, i, parts, heights)
            if m.kind == "images"
            else {"signals": _signals, "table": _table, "text": _text}[m.kind](m, i, parts)
        ),
    }


def _images(m: Material, i: int, parts: Parts, heights: tuple[int, int]) -> dict[str, Any]:
    x, error = m.x[i], float(np.mean((m.x[i] - parts.reconstruction) ** 2))
    what = f"Input {m.seen.row(i)}{', class ' + m.label(i) if m.y is not None else ''}, and its reconstruction"
    pair = Images(
        sprites.examples(np.stack([x, parts.reconstruction]), m.shape, m.limits, heights[0]),
        f"{what}: mean squared error {number(error, '#.3g')}.",
        "",
        ["input", "rebuilt"],
    )
    shown = parts.change[:ADDED]
    if not len(shown):
        return {"pair": pair, "adds": None}
    names = [f"latent {int(j)}" for j in parts.latent[: len(shown)]]
    sizes = [f"{name} by {number(float(np.abs(c).mean()), '.2g')}" for name, c in zip(names, shown, strict=True)]
    adds = Images(
        sprites.differences(shown, m.shape, m.peak, heights[1]),
        f"What single latents add to the reconstruction of input {m.seen.row(i)}, as difference images; "
        "mean size: " + ", ".join(sizes) + ".",
        "What each latent alone adds" + (f" (the {ADDED} worth most)" if len(parts.latent) > ADDED else ""),
        names,
    )
    return {"pair": pair, "adds": adds}


def _signals(m: Material, i: int, parts: Parts) -> dict[str, Any]:
    shape = tuple(m.shape)
    x, there = m.x[i].reshape(shape), parts.reconstruction.reshape(shape)
    charts = []
    for c in largest(x.std(-1), 3):
        error = float(np.mean((x[c] - there[c]) ** 2))
        alt = f"Input {m.seen.row(i)}, channel {c}, and its reconstruction: mean squared error {number(error, '#.3g')}."
        charts.append(lines.chart([("off", x[c]), ("high", there[c])], m.channel_limits[c], alt, f"channel {c}"))
    added = []
    for latent, change in zip(parts.latent[:ADDED], parts.change.reshape(-1, *shape), strict=False):
        c = int(np.argmax(np.abs(change).max(-1)))
        at = int(np.argmax(np.abs(change[c])))
        alt = f"What latent {latent} adds to input {m.seen.row(i)}: most in channel {c}, at step {at}, "
        alt += number(float(change[c, at]), "+.2f") + "."
        reach = (min(0.0, float(change[c].min())), max(0.0, float(change[c].max())))
        added.append(lines.chart([("plain", change[c])], reach, alt, f"latent {latent} adds to channel {c}"))
    return {"charts": charts, "adds": added}


def _text(m: Material, i: int, parts: Parts) -> dict[str, Any]:
    error = float(np.sum((m.x[i] - parts.reconstruction) ** 2) / np.sum((m.x[i] - m.middle) ** 2))
    return {"context": m.context(i), "error": number(error, ".2f")}


def _table(m: Material, i: int, parts: Parts) -> dict[str, Any]:
    x, there = m.stored(m.x[i]), m.stored(parts.reconstruction)
    columns = sorted(largest((m.x[i] - m.middle) / m.each, COLUMNS))
    rows = [[m.names[c], measure(float(x[c])), measure(float(there[c]))] for c in columns]
    added = []
    for latent, change in zip(parts.latent[:ADDED], parts.change, strict=False):
        moved = largest(change, MOVED)
        sizes = [float(change[c]) for c in moved]
        found = bars(sizes, [m.names[c] for c in moved], [number(v, "+.2f") for v in sizes])
        added.append({"latent": int(latent), "bars": found})
    return {"values": rows, "more": len(x) - len(columns), "adds": added}
