"""Samples that share the active latents of an input (ICLR figure 13, UAI figure 6)."""

import numpy as np
import torch

from vsc.measure.showcase import choose_examples
from vsc.model.sampling import Samples, ancestral, conditional, decode
from vsc.plots.charts import strips
from vsc.studies import models
from vsc.studies.base import Ask, Finding, Group, Numbers, Study, described, tabulate
from vsc.studies.nearest import known, nearest

KINDS = (models.VSC, models.DYNAMIC)
"""The VSC of the source, with a fixed prior, and that with the dynamic one."""
MANY, DRAWS, INPUTS, SHOWN = 250, 8, 5, 9
KEPT, PRIOR, AGAIN = "class kept", "class kept, ancestral", "class kept, reconstruction"
OVERLAP, APART = "overlap of latents on", "overlap, other inputs"


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean of |a and b| / |a or b| over rows of sets (n, J), bool; 1 where both are empty."""
    either = (a | b).sum(-1)
    return float(np.where(either > 0, (a & b).sum(-1) / np.maximum(either, 1), 1.0).mean())


def describe(ask: Ask, group: Group, seed: int) -> Numbers:
    """Return whether samples are of the input's class, and whether encoding them finds its latents again."""
    model, test = group.model(seed), ask.data.test
    chosen = choose_examples(test, MANY, seed=1)
    drawn = conditional(model, test.x[chosen], DRAWS)
    codes = model.encode(test.x[chosen])
    on = codes.active.numpy()
    flat = torch.from_numpy(drawn.x).flatten(0, 1)
    with torch.no_grad():
        found = torch.cat([model.codes(chunk).active for chunk in flat.split(1000)]).numpy()
    repeated = np.repeat(on, DRAWS, 0)
    numbers: dict[str, float | None] = {
        OVERLAP: overlap(found, repeated),
        APART: overlap(on, np.roll(on, 1, 0)),
        "spread of samples (RMS)": float(np.sqrt(np.var(drawn.x, 1).mean())),
    }
    training = known(ask, model)
    near = nearest(flat, training).label
    if near is None or test.y is None:
        return numbers | {KEPT: None, AGAIN: None, PRIOR: None}
    y = test.y[chosen]
    again = nearest(torch.from_numpy(decode(model, codes.hard.numpy())), training).label
    free = nearest(torch.from_numpy(ancestral(model, len(chosen)).x), training).label
    assert again is not None
    assert free is not None
    return numbers | {
        KEPT: (near == y.repeat_interleave(DRAWS)).double().mean().item(),
        AGAIN: (again == y).double().mean().item(),
        PRIOR: (free == y).double().mean().item(),
    }


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw inputs with samples that share their latents, and say what is kept."""
    groups = described(ask, groups, describe)
    words = list(map(_sentence, groups))
    words.append(
        "Classes are those of the nearest training image; the overlap of two sets of latents is that of Jaccard, the "
        "input's against that of the sample encoded anew."
    )
    table = tabulate(groups, ("active", "l0", "used", "elbo", "minutes"))
    alt = "Inputs, their reconstructions, and samples that share their active latents."
    return Finding(_figure(ask, groups), alt, table, words)


def _sentence(group: Group) -> str:
    said = (
        f"{group['model']} ({group.mean('active'):.1f} of {group['J']} on): encoded anew, samples overlap in "
        f"{group.mean(OVERLAP):.2f} of their latents with the input, two inputs in {group.mean(APART):.2f}"
    )
    if not group.values(KEPT):
        return said + "."
    kept, again, free = map(group.mean, (KEPT, AGAIN, PRIOR))
    verdict = "are mostly" if kept > 0.5 else "are more often than by chance" if kept > 1.5 * free else "are hardly"
    return (
        said + f"; samples {verdict} of the input's class, {kept:.0%} against {again:.0%} of the reconstructions and "
        f"{free:.0%} of samples from the whole prior."
    )


def _figure(ask: Ask, groups: list[Group]):
    test = ask.data.test
    chosen = choose_examples(test, INPUTS, seed=1)
    captions = models.captions(ask, chosen)
    pictures = {}
    for group in groups:
        model = group.model()
        drawn: Samples = conditional(model, test.x[chosen], SHOWN)
        codes = model.encode(test.x[chosen])
        inputs, again = model.scaler(test.x[chosen]).numpy(), decode(model, codes.hard.numpy())
        for i, caption in enumerate(captions):
            name = f"{group['model']}\n{caption}, {int(codes.active[i].sum())} on"
            name += "" if name not in pictures else f" ({i + 1})"
            pictures[name] = np.concatenate([inputs[i : i + 1], again[i : i + 1], drawn.x[i]])
    heads = ["input", "decoded", *(f"sample {k + 1}" for k in range(SHOWN))]
    return strips(pictures, ask.data.shape, heads, marked=dict.fromkeys(pictures, 0))


STUDY = Study(
    title="Samples that share an input's latents",
    source="ICLR figure 13, UAI figure 6",
    claim=(
        "Sampling only along the latents that are on for an observation generates good synthetic objects, which vary "
        "only in the features recognised in the original."
    ),
    minutes=2,
    rows=lambda ask: models.many(ask, KINDS),
    draw=draw,
    needs=("images",),
    data="fashion-mnist",
)
