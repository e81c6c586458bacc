"""Single examples: the input, its code, its reconstruction, and what each active latent is worth to it."""

from typing import Any

import numpy as np

from vsc.measure.effects import Parts
from vsc.report import lines, sprites
from vsc.report.cards import Picture
from vsc.report.material import Bar, Material, bars
from vsc.report.words import largest, measure, number

LATENTS = 16  # listed for an example, those that it needs most
COLUMNS = 12  # of a table, shown for an example


def example(m: Material, i: int) -> dict[str, Any]:
    """Collect what the template shows of the i-th example of the split: what each latent does for it."""
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
        **{"images": _images, "signals": _signals, "table": _table}[m.kind](m, i, parts),
    }


def _images(m: Material, i: int, parts: Parts) -> dict[str, Any]:
    x, error = m.x[i], float(np.mean((m.x[i] - parts.reconstruction) ** 2))
    what = f"Input {m.seen.row(i)}{', class ' + m.label(i) if m.y is not None else ''}, and its reconstruction"
    pair = Picture(
        sprites.examples(np.stack([x, parts.reconstruction]), m.shape, m.limits, 96),
        f"{what}: mean squared error {number(error, '#.3g')}.",
        "",
        ["input", "reconstruction"],
    )
    shown = parts.change[:8]
    if not len(shown):
        return {"pair": pair, "adds": None}
    names = [str(int(j)) for j in parts.latent[: len(shown)]]
    sizes = [f"{name} by {number(float(np.abs(c).mean()), '.2g')}" for name, c in zip(names, shown, strict=True)]
    adds = Picture(
        sprites.differences(shown, m.shape, m.peak),
        f"What single latents add to the reconstruction of input {m.seen.row(i)}, as difference images; "
        "mean size: latent " + ", ".join(sizes) + ".",
        "What each latent alone adds",
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
    return {"charts": charts}


def _table(m: Material, i: int, parts: Parts) -> dict[str, Any]:
    x, there = m.stored(m.x[i]), m.stored(parts.reconstruction)
    columns = sorted(largest(m.x[i], COLUMNS))
    rows = [[m.names[c], measure(float(x[c])), measure(float(there[c]))] for c in columns]
    return {"values": rows, "more": len(x) - len(columns)}
