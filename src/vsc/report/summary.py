"""Say in plain sentences what the numbers of a page show, and what they do not."""

from collections.abc import Sequence
from math import isfinite, sqrt
from typing import NamedTuple

from vsc.report import settings
from vsc.report.entry import Entry
from vsc.report.words import count, listing, number


class Sentence(NamedTuple):
    """One finding."""

    topic: str  # one or two words
    text: str  # a sentence or two


def sentences(entries: Sequence[Entry], data: str, examples: int) -> list[Sentence]:
    """Summarise `entries`, scored on so many held-out `examples` of `data`; what has no numbers has no sentence."""
    found = [
        Sentence("Setting", _setting(entries, data, examples)),
        Sentence("Bound", _bounds(entries)),
        Sentence("Code", _codes(entries)),
        Sentence("Price", _price(entries)),
        Sentence("Noise", _denoising(entries)),
        Sentence("Classes", _probe(entries, examples)),
        Sentence("Trust", _trust(entries)),
    ]
    return [sentence for sentence in found if sentence.text]


_NUMBERS = {2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six"}


def _setting(entries: Sequence[Entry], data: str, examples: int) -> str:
    n, J = len(entries), entries[0].latent_dim
    titles = [one.title for one in entries]
    who = f"{titles[0]} was" if n == 1 else f"{_NUMBERS.get(n, n)} models ({listing(titles)}) were"
    latents = f"{J} latent{'' if J == 1 else 's'}"
    return f"{who} trained on {data} with {latents} and scored on {count(examples)} held-out examples."


def _bounds(entries: Sequence[Entry]) -> str:
    known = _known(entries, "elbo")
    if not known:
        return ""
    known.sort(key=lambda pair: -pair[1])
    (label, best), texts = known[0], [number(value) for _, value in known]
    if len(known) == 1:
        return f"The bound (ELBO) of {label} is {_nats(best)} per example."
    tied = [name for (name, _), text in zip(known, texts, strict=True) if text == texts[0]]
    if len(tied) > 1:
        return f"{listing(tied)} share the best bound: an ELBO of {_nats(best)} per example."
    lead = best - known[1][1]
    spreads = [one.spread for one in entries if one.spread and one.title in (label, known[1][0])]
    noise = max((spread.elbo or 0.0 for spread in spreads), default=0.0)
    return (
        f"{label} has the best bound: an ELBO of {_nats(best)} per example, {_nats(lead)} above the next, "
        f"{known[1][0]}" + (", less than seeds differ." if lead < noise else ".")
    )


def _codes(entries: Sequence[Entry]) -> str:
    J = entries[0].latent_dim
    sparse = [f"{number(value, '.1f')} in {name}" for name, value in _known(entries, "active", True)]
    dense: dict[str, list[str]] = {}
    for name, value in _known(entries, "active", False):
        dense.setdefault(number(value, ".0f"), []).append(name)
    rest = listing([f"{listing(names)} {'uses' if len(names) == 1 else 'use'} all {n}" for n, names in dense.items()])
    if not sparse:
        return f"No model here has spikes: {rest} for every input." if rest else ""
    begin = f"Of the {J} latents, an input uses on average {listing(sparse)}"  # active, not l0: that counts dead ones
    return f"{begin}; {rest} for every input." if rest else f"{begin}."


def _price(entries: Sequence[Entry]) -> str:
    sparse, dense = _known(entries, "elbo", True), _known(entries, "elbo", False)
    if not sparse or not dense:
        return ""
    against, bound = max(dense, key=lambda pair: pair[1])
    parts = []
    for name, value in sparse:
        size = number(abs(value - bound))
        parts.append(f"{name} {'is level' if size == '0.00' else ('gains ' if value > bound else 'loses ') + size}")
    return f"Compared with the dense code of {against}, in nats of ELBO per example: {listing(parts)}."


def _denoising(entries: Sequence[Entry]) -> str:
    gains = [
        (one.title, one.mean.denoise_psnr, one.mean.denoise_psnr - one.mean.noisy_psnr)
        for one in entries
        if isfinite(one.mean.denoise_psnr) and isfinite(one.mean.noisy_psnr)
    ]
    if not gains:
        return ""
    label, psnr, gain = max(gains, key=lambda item: item[1])
    begin = f"A noisy input has a PSNR of {number(psnr - gain)} dB if nothing is done"
    if gain <= 0:
        one = "the reconstruction" if len(gains) == 1 else "no model’s reconstruction"
        verb = "is not closer" if len(gains) == 1 else "is closer"
        return f"{begin}; {one} of it {verb} to the clean input (at best {number(psnr)} dB, {label})."
    worse = [name for name, _, g in gains if g <= 0]
    end = f"; {listing(worse)} {'does' if len(worse) == 1 else 'do'} no better than doing nothing" if worse else ""
    return f"{begin}; reconstructing it with {label} gives {number(psnr)} dB, {number(gain)} dB better{end}."


def _probe(entries: Sequence[Entry], examples: int) -> str:
    known = _known(entries, "probe")
    if not known:
        return ""
    parts = [f"{number(100 * value, '.1f')} % with {name}" for name, value in known]
    n = max(examples, 1)
    middle = (n * max(value for _, value in known) + 2) / (n + 4)  # Agresti and Coull: no error is no certainty
    error = number(100 * sqrt(middle * (1 - middle) / (n + 4)), ".1f")
    return (
        f"From the code alone, a linear classifier names the right class for {listing(parts)}. With "
        f"{count(examples)} held-out examples, chance alone moves this by about ±{error} points; "
        "between seeds it can move by more."
    )


def _trust(entries: Sequence[Entry]) -> str:
    few, many = min(runs := [len(one.scores) for one in entries]), max(runs)
    if few > 1:
        seeds = f"{few}" if few == many else f"{few} to {many}"
        return (
            f"Every number is the mean of {seeds} seeds. A difference that is not clearly larger than the ± of the "
            "two numbers may be chance. Curves and pictures show the first seed."
        )
    # the seed of the data's split is part of the data, the same in every run
    flat = [(key, value) for one in entries for key, value in settings.flatten(one.settings).items()]
    found = {str(value) for key, value in flat if key.split(".")[-1] == "seed" and not key.startswith("data.")}
    which = f"seed {found.pop()}" if len(found) == 1 else "one seed each"
    if len(entries) == 1:
        return f"This is a single run ({which}); another seed would give somewhat different numbers."
    return (
        f"Each model is a single run ({which}): a difference between two of them is an indication, not "
        "proof. To see which differences last, train with several seeds."
    )


def _known(entries: Sequence[Entry], key: str, spikes: bool | None = None) -> list[tuple[str, float]]:
    """Models and their finite values of one score; only those with or without spikes, if asked for."""
    return [
        (one.title, value)
        for one in entries
        if spikes in (None, one.spiked) and (value := getattr(one.mean, key)) is not None and isfinite(value)
    ]


def _nats(value: float) -> str:
    return f"{number(value)} nats"
