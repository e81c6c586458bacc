"""One card for each used latent: when it is on, for what, and what it alone does, in words, bars and pictures."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vsc.report import lines, sprites
from vsc.report.material import Bar, Material, bars, percent
from vsc.report.words import largest, listing, measure, most_changed, most_changed_pixel, number

COLUMNS = 6  # of a table, shown on a card
ROWS = 4  # of a table, shown on a card, at each end
PIECES = 8  # of texts, shown on a card
PARTNERS = 4  # latents that go together with one, and as many that avoid it


class Images(NamedTuple):
    """A sprite with its words."""

    sprite: sprites.Sprite  # the images
    alt: str  # what is to be seen, for those who do not see it
    caption: str  # what they are
    ticks: list[str]  # what stands below each image


def card(m: Material, k: int, height: int = 56) -> dict[str, Any]:
    """Collect what the card of the k-th used latent of `m` shows; `height` is that of images, CSS pixels."""
    return {
        "latent": int(m.found.shown[k]),
        "facts": facts(m, k),
        "classes": class_bars(m, k),
        "together": partners(m, k),
        **(
            _images(m, k, height)
            if m.kind == "images"
            else {"signals": _signals, "table": _table, "text": _text}[m.kind](m, k)
        ),
    }


def facts(m: Material, k: int) -> list[str]:
    """Say in a few phrases how often the k-th used latent is on, and what it costs and is worth."""
    j, f = int(m.found.shown[k]), m.found
    out = [f"on for {percent(float(f.rate[j]))} of the inputs", f"mean size when on {number(float(f.size[j]))}"]
    if not f.gated:
        out = [f"standard deviation of its code {number(float(np.sqrt(f.variance[j])))}"]
    if f.kl is not None:
        out.append(f"costs {number(float(f.kl[j]))} nats per input")
    return [*out, f"worth {number(float(m.moved.drop[k]), '.1f')} nats to an input{' that has it on' * f.gated}"]


def class_bars(m: Material, k: int, most: int = 12) -> list[Bar]:
    """Return a bar for each class, or for the `most` most extreme of many, on the card of `m` and `k`."""
    if m.profile is None:
        return []
    values = m.profile[:, k]
    kept = sorted(largest(values, most)) if len(values) > most else range(len(values))
    kept = [c for c in kept if np.isfinite(values[c])]
    texts = [percent(float(values[c])) if m.found.gated else number(float(values[c]), "+.2f") for c in kept]
    return bars(
        [float(values[c]) for c in kept], [m.class_name(c) for c in kept], texts, 1.0 if m.found.gated else None
    )


ALIKE = 1.25
"""A latent whose rate for no class is so many times the median class's is selective for none."""


def top_class(m: Material, k: int) -> tuple[str, str]:
    """Return the class that the k-th used latent is most selective for, and its rate as printed; or empty words."""
    if m.profile is None or not np.isfinite(m.profile[:, k]).any():
        return "", ""
    values = np.nan_to_num(m.profile[:, k])
    c = int(np.argmax(values if m.found.gated else np.abs(values)))
    if m.found.gated and values[c] < ALIKE * np.median(values):
        return "no class", ""  # on as often for one as for another
    return m.class_name(c), percent(float(values[c])) if m.found.gated else f"{number(float(values[c]), '+.1f')} sd"


def partners(m: Material, k: int) -> list[dict[str, Any]]:
    """List the latents that go with the k-th used one most and least, each with a phrase."""
    r = m.pairs.correlation[k].copy()
    r[k] = 0
    order = np.argsort(-r, kind="stable")
    chosen = [i for i in order[:PARTNERS] if r[i] > 0.05] + [i for i in order[::-1][:PARTNERS] if r[i] < -0.05]
    out = []
    for i in chosen:
        words = f"correlation {number(float(r[i]), '+.2f')}"
        if m.pairs.given is not None:
            share = float(m.pairs.given[k, i])
            words = f"on for {percent(share)} of these inputs" if share else "never on for these"
            words += f", {percent(float(m.found.rate[m.found.shown[i]]))} of all"
        out.append({"latent": int(m.found.shown[i]), "words": words, "more": bool(r[i] > 0)})
    return out


def _images(m: Material, k: int, height: int) -> dict[str, Any]:
    j, values, i = int(m.found.shown[k]), m.swept.values[k], m.seen.row(m.swept.example[k])
    ticks = [number(float(v), ".1f") for v in values]
    start = "off" if m.found.gated else ticks[0]
    if m.found.gated:
        ticks[0] = "off"
    strip = Images(
        sprites.examples(m.swept.x[k], m.shape, m.limits, height),
        f"Example {i} decoded with latent {j} set to {listing(ticks)}. From {start} to {ticks[-1]} it "
        + most_changed_pixel(m.swept.x[k, -1] - m.swept.x[k, 0], m.shape)
        + ".",
        f"One input (number {i}) decoded with this latent set to",
        ticks,
    )
    low, high = (number(float(v), ".1f") for v in (m.found.low[j], m.found.high[j]))
    changes = [(f"raised from {low} to {high}", m.moved.raising[k])]
    if m.moved.presence is not None:
        sign = f" (its {'positive' if m.moved.positive[k] >= 0.5 else 'negative'} values)" if m.two_sided(k) else ""
        changes = [(f"on{sign} instead of off", m.moved.presence[k]), *changes]
    differences = [
        Images(
            sprites.differences(change[None], m.shape, m.peak, 96),
            f"Latent {j} {words}: {most_changed_pixel(change, m.shape)}.",
            words,
            [],
        )
        for words, change in changes
    ]
    tops = []
    for words, index in (("highest", m.ends.highest[k]), ("lowest", m.ends.lowest[k])):
        index = index[index >= 0]
        if len(index):
            there = [number(float(v), ".1f") for v in m.found.value[index, j]]
            labels = [m.label(i) for i in index]
            alt = f"The {len(index)} inputs with the {words} values of latent {j}, from {there[0]} to {there[-1]}"
            alt += f"; classes {_tally(labels)}." if m.y is not None else "."
            ticks = [f"{v}\n{label}" if label else v for v, label in zip(there, labels, strict=True)]
            sprite = sprites.examples(m.x[index], m.shape, m.limits, height)
            caption = f"Inputs with its {words} values; below, the value{' and the class' * (m.y is not None)}"
            tops.append(Images(sprite, alt, caption, ticks))
    return {"strip": strip, "differences": differences, "tops": tops}


def _tally(labels: Sequence[str]) -> str:
    return listing([f"{label} ({labels.count(label)})" for label in dict.fromkeys(labels)])


def _signals(m: Material, k: int) -> dict[str, Any]:
    """Return charts of the three channels that change most, and of the inputs with the most extreme values."""
    j, (C, L) = int(m.found.shown[k]), m.shape
    x = m.swept.x[k].reshape(-1, C, L)
    size = np.sqrt(np.mean((x[-1] - x[0]) ** 2, -1))
    channels, i = largest(size, 3), m.seen.row(m.swept.example[k])
    low, high = (number(float(v), ".1f") for v in (m.found.low[j], m.found.high[j]))
    charts = []
    for c in channels:
        curves = [("off", x[0, c])] if m.found.gated else []
        curves += [("low", x[1 if m.found.gated else 0, c]), ("high", x[-1, c])]
        words = f"channel {c}"
        alt = f"Example {i}, {words}, decoded with latent {j} {'off, ' * m.found.gated}at {low} and at {high}: "
        alt += f"it moves by {number(float(size[c]))} (root mean square)."
        charts.append(lines.chart(curves, m.channel_limits[c], alt, words))
    tops = []
    for words, index in (("highest", m.ends.highest[k]), ("lowest", m.ends.lowest[k])):
        for n in index[index >= 0][:3]:
            value = number(float(m.found.value[n, j]), ".1f")
            curve = m.x[n].reshape(C, L)[channels[0]]
            alt = f"Input {m.seen.row(n)} has one of the {words} values of latent {j}, {value}"
            alt += f"; its class is {m.label(n)}." if m.y is not None else "."
            caption = f"{words} {value} {m.label(n)}, channel {channels[0]}"
            tops.append(lines.chart([("plain", curve)], m.channel_limits[channels[0]], alt, caption))
    return {"charts": charts, "top_charts": tops, "low": low, "high": high, "example": i}


def _table(m: Material, k: int) -> dict[str, Any]:
    """Return the columns that move most, what one row becomes, and the rows with the most extreme values."""
    j, change, there = int(m.found.shown[k]), m.moved.change[k], m.moved.observed[k]
    columns = largest(change, COLUMNS)

    def both(told: np.ndarray) -> list[str]:
        texts = [f"{number(float(told[c]), '+.2f')} ({_signed(float(m.changed(told)[c]))})" for c in columns]
        return [text if np.isfinite(told[c]) else "–" for c, text in zip(columns, texts, strict=True)]

    swept = m.stored(m.swept.x[k])
    steps = sorted({0, 1, len(swept) // 2, len(swept) - 1}) if m.found.gated else [0, len(swept) // 2, len(swept) - 1]
    ticks = [number(float(m.swept.values[k, s]), ".1f") for s in steps]
    if m.found.gated:
        ticks[0] = "off"
    rows = []
    for words, index in (("highest", m.ends.highest[k]), ("lowest", m.ends.lowest[k])):
        for i in index[index >= 0][:ROWS]:
            own = m.stored(m.x[i])
            rows.append(
                [
                    words,
                    str(m.seen.row(i)),
                    m.label(i),
                    number(float(m.found.value[i, j])),
                    *(measure(float(own[c])) for c in columns),
                ]
            )
    return {
        "columns": [m.names[c] for c in columns],
        "moved": bars([float(change[c]) for c in columns], [m.names[c] for c in columns], both(change)),
        "observed": np.isfinite(there).any()
        and bars([float(there[c]) for c in columns], [m.names[c] for c in columns], both(there)),
        "raised": both(m.moved.raising[k]),
        "turned_on": bool(m.moved.turned_on[k]),
        "low": number(float(m.found.low[j]), ".1f"),
        "high": number(float(m.found.high[j]), ".1f"),
        "ticks": ticks,
        "swept": [[m.names[c], *(measure(float(swept[s, c])) for s in steps)] for c in columns],
        "example": m.seen.row(m.swept.example[k]),
        "rows": rows,
        "words": f"Latent {j} {most_changed(change, m.features)}.",
    }


def _text(m: Material, k: int) -> dict[str, Any]:
    """Return the pieces that its strongest inputs are, and these inputs in their texts."""
    j, found = int(m.found.shown[k]), m.pieces[k][:PIECES]
    contexts = []
    for words, index in (("highest", m.ends.highest[k]), ("lowest", m.ends.lowest[k])):
        value = [number(float(m.found.value[i, j]), ".2f") for i in index]
        contexts += [(words, v, m.label(i), m.context(i)) for i, v in zip(index, value, strict=True) if i >= 0]
    return {
        "pieces": bars([s for _, s in found], [p for p, _ in found], [percent(s) for _, s in found], 1.0),
        "contexts": contexts,
    }


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + measure(value)
