"""Say in plain sentences what the numbers of a page show, and what they do not."""

from collections.abc import Sequence
from math import isfinite, sqrt
from typing import NamedTuple

from vsc.measure.scores import Scores
from vsc.report.words import count, listing, number


class Facts(NamedTuple):
    """What the sentences are made from; the first five hold one item per model."""

    labels: Sequence[str]  # the models' names
    scores: Sequence[Scores]  # their scores
    spreads: Sequence[Scores | None]  # standard deviations over seeds; None for a single run
    runs: Sequence[int]  # number of seeds behind each model's scores
    spikes: Sequence[bool]  # whether the model has spikes
    latent_dim: int  # J
    data: str  # name of the data set
    test_examples: int  # number of held-out examples
    seeds: Sequence[str]  # the different seeds found in the settings


class Sentence(NamedTuple):
    """One finding."""

    topic: str  # one or two words
    text: str  # a sentence or two


def sentences(facts: Facts) -> list[Sentence]:
    """Summarise a comparison, without the sentences that the models have no numbers for."""
    found = [
        Sentence("Setting", _setting(facts)),
        Sentence("Bound", _bounds(facts)),
        Sentence("Code", _codes(facts)),
        Sentence("Price", _price(facts)),
        Sentence("Noise", _denoising(facts)),
        Sentence("Classes", _probe(facts)),
        Sentence("Trust", _trust(facts)),
    ]
    return [sentence for sentence in found if sentence.text]


_NUMBERS = {2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six"}


def _setting(facts: Facts) -> str:
    n = len(facts.labels)
    who = f"{facts.labels[0]} was" if n == 1 else f"{_NUMBERS.get(n, n)} models ({listing(facts.labels)}) were"
    latents = f"{facts.latent_dim} latent{'' if facts.latent_dim == 1 else 's'}"
    held_out = f"{count(facts.test_examples)} held-out examples"
    return f"{who} trained on {facts.data} with {latents} and scored on {held_out}."


def _bounds(facts: Facts) -> str:
    known = _known(facts, "elbo")
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
    spreads = [facts.spreads[facts.labels.index(name)] for name, _ in known[:2]]
    noise = max((one.elbo or 0.0 for one in spreads if one is not None), default=0.0)
    return (
        f"{label} has the best bound: an ELBO of {_nats(best)} per example, {_nats(lead)} above the next, "
        f"{known[1][0]}" + (", less than seeds differ." if lead < noise else ".")
    )


def _codes(facts: Facts) -> str:
    J = facts.latent_dim
    sparse = [f"{number(value, '.1f')} in {name}" for name, value in _known(facts, "active", True)]
    dense: dict[str, list[str]] = {}
    for name, value in _known(facts, "active", False):
        dense.setdefault(number(value, ".0f"), []).append(name)
    rest = listing([f"{listing(names)} {'uses' if len(names) == 1 else 'use'} all {n}" for n, names in dense.items()])
    if not sparse:
        return f"No model here has spikes: {rest} for every input." if rest else ""
    begin = f"Of the {J} latents, an input uses on average {listing(sparse)}"  # active, not l0: that counts dead ones
    return f"{begin}; {rest} for every input." if rest else f"{begin}."


def _price(facts: Facts) -> str:
    sparse, dense = _known(facts, "elbo", True), _known(facts, "elbo", False)
    if not sparse or not dense:
        return ""
    against, bound = max(dense, key=lambda pair: pair[1])
    parts = []
    for name, value in sparse:
        size = number(abs(value - bound))
        parts.append(f"{name} {'is level' if size == '0.00' else ('gains ' if value > bound else 'loses ') + size}")
    return f"Compared with the dense code of {against}, in nats of ELBO per example: {listing(parts)}."


def _denoising(facts: Facts) -> str:
    gains = [
        (label, row.denoise_psnr, row.denoise_psnr - row.noisy_psnr)
        for label, row in zip(facts.labels, facts.scores, strict=True)
        if isfinite(row.denoise_psnr) and isfinite(row.noisy_psnr)
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


def _probe(facts: Facts) -> str:
    known = _known(facts, "probe")
    if not known:
        return ""
    parts = [f"{number(100 * value, '.1f')} % with {name}" for name, value in known]
    n = max(facts.test_examples, 1)
    middle = (n * max(value for _, value in known) + 2) / (n + 4)  # Agresti and Coull: no error is no certainty
    error = number(100 * sqrt(middle * (1 - middle) / (n + 4)), ".1f")
    return (
        f"From the code alone, a linear classifier names the right class for {listing(parts)}. With "
        f"{count(facts.test_examples)} held-out examples, chance alone moves this by about ±{error} points; "
        "between seeds it can move by more."
    )


def _trust(facts: Facts) -> str:
    if min(facts.runs) > 1:
        few, many = min(facts.runs), max(facts.runs)
        seeds = f"{few}" if few == many else f"{few} to {many}"
        return (
            f"Every number is the mean of {seeds} seeds. A difference that is not clearly larger than the ± of the "
            "two numbers may be chance. Curves and pictures show the first seed."
        )
    which = f"seed {facts.seeds[0]}" if len(facts.seeds) == 1 else "one seed each"
    if len(facts.labels) == 1:
        return f"This is a single run ({which}); another seed would give somewhat different numbers."
    return (
        f"Each model is a single run ({which}): a difference between two of them is an indication, not "
        "proof. To see which differences last, train with several seeds."
    )


def _known(facts: Facts, key: str, spikes: bool | None = None) -> list[tuple[str, float]]:
    """Models and their finite values of one score; only those with or without spikes, if asked for."""
    return [
        (label, getattr(row, key))
        for label, row, has in zip(facts.labels, facts.scores, facts.spikes, strict=True)
        if spikes in (None, has) and getattr(row, key) is not None and isfinite(getattr(row, key))
    ]


def _nats(value: float) -> str:
    return f"{number(value)} nats"
