"""A code before and after one of its non-zero elements is altered, and what both decode to (ICLR figure 4, UAI)."""

from typing import NamedTuple

import numpy as np
import torch

from vsc.measure.showcase import choose_examples
from vsc.model import Autoencoder
from vsc.model.sampling import decode, traversal
from vsc.plots.pictures import Case, Change, alteration, altered
from vsc.studies import models
from vsc.studies.base import Ask, Finding, Group, Study, Table
from vsc.studies.nearest import class_name, known, nearest, rms

SHOWN, LATENTS = 3, 3
SIMILAR = 200
"""Codes among which a latent's range is looked up."""
MANY = 100
"""Test images over which the sentences are measured."""


class Altered(NamedTuple):
    """Elements of codes, each altered alone; code (K, J) is the altered one, picture (K, M) what it decodes to."""

    example: np.ndarray
    latent: np.ndarray
    before: np.ndarray
    after: np.ndarray
    code: np.ndarray
    picture: np.ndarray


def alter(model: Autoencoder, x: torch.Tensor, seen: torch.Tensor, most: int) -> Altered:
    """
    Alter the largest elements of each code, each alone, to the farther end of its range among similar codes.

    Similar are those that are nearest in all other latents; of these, the values of the latent where it is on count,
    from their 5 % to their 95 % quantile. So an alteration stays where data are, or near. `x` (N, M) are examples as
    stored, `seen` (K, J) hard codes of many; of each code at `most` that many elements are altered, the largest first.
    """
    found = traversal(model, x, values=(0.0,), most=most)
    example, place = np.nonzero(found.latent >= 0)
    latent = found.latent[example, place]
    before = found.before[example, latent]
    after = np.array([_end(found.before[i], j, seen.numpy()) for i, j in zip(example, latent, strict=True)], np.float32)
    code = found.before[example].copy()
    code[np.arange(len(code)), latent] = after
    picture = decode(model, code)
    return Altered(example, latent, before, after, code, picture)


def _end(code: np.ndarray, j: int, seen: np.ndarray) -> float:
    """Return the end of latent j's range among codes similar to this one that is farther from its value."""
    squared = np.square(seen - code)
    order = np.argsort(squared.sum(1) - squared[:, j], kind="stable")
    near = seen[order[:SIMILAR], j]
    near = near[near != 0]
    if not len(near):
        return 0.0
    low, high = np.quantile(near, (0.05, 0.95))
    return float(low if abs(low - code[j]) > abs(high - code[j]) else high)


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw some codes with elements altered, and measure what alterations do over many."""
    group, test = groups[0], ask.data.test
    model = group.model()
    codes = group.measured(ask.data).codes
    chosen = choose_examples(test, SHOWN, seed=1)
    found = alter(model, test.x[chosen], codes.hard, LATENTS)
    inputs, before = model.scaler(test.x[chosen]).numpy(), codes.hard[chosen].numpy()
    pictures = decode(model, before)
    training = known(ask, model)
    cases, rows = [], []
    for i, name in enumerate(models.captions(ask, chosen)):
        own = np.flatnonzero(found.example == i)
        changes = [Change(_title(found, int(k)), found.code[k], found.picture[k]) for k in own]
        cases.append(Case(name, inputs[i], before[i], pictures[i], changes))
        for k in own:
            both = torch.from_numpy(np.stack([pictures[i], found.picture[k]]))
            near = nearest(both, training).label
            names = (None, None) if near is None else tuple(class_name(ask, int(c)) for c in near)
            change = rms(both[1] - both[0]).item()
            at = int(found.latent[k]), float(found.before[k]), float(found.after[k])
            rows.append((f"{name} ({int(chosen[i])})", *at, change, concentration(both[1] - both[0]), *names))
    columns = ("example (index)", "latent", "before", "after", "change (RMS)", "share in a tenth of the pixels")
    columns += ("nearest class before", "after ")
    words = [_settings(group), *_measure(ask, model, codes.hard)]
    alt = "Bar plots of codes before and after one element is altered, with the decoded images."
    return Finding(altered(cases, ask.data.shape), alt, Table(columns, rows), words)


def concentration(change: torch.Tensor) -> float:
    """Return the share of the squared change that lies in the tenth of the pixels that change most."""
    squared = change.square().flatten().sort(descending=True).values
    return (squared[: max(1, len(squared) // 10)].sum() / squared.sum().clamp_min(1e-20)).item()


def _measure(ask: Ask, model: Autoencoder, seen: torch.Tensor) -> list[str]:
    test = ask.data.test
    chosen = choose_examples(test, MANY, seed=2)
    found = alter(model, test.x[chosen], seen, model.latent_dim)
    if not len(found.latent):
        return ["No latent is on for any of the examples: there is nothing to alter."]
    plain = torch.from_numpy(decode(model, model.encode(test.x[chosen]).hard.numpy()))
    picture = torch.from_numpy(found.picture)
    change = picture - plain[found.example]
    others = rms(plain - plain.roll(1, 0))
    local = float(np.mean([concentration(one) for one in change]))
    general = float(np.mean([concentration(one) for one in plain - plain.roll(1, 0)]))
    words = [
        f"Over {len(chosen)} test images and every element that is on ({len(found.latent)}), altering one alone to "
        f"the end of its range among similar codes changes the picture by {rms(change).mean():.3f} (RMS per pixel); "
        f"two different images differ by {others.mean():.3f}.",
        f"A tenth of the pixels carries {local:.0%} of such a change, against {general:.0%} of the difference between "
        f"two images: single elements act {'more locally' if local > general else 'no more locally'}.",
    ]
    training = known(ask, model)
    now, then = nearest(picture, training).label, nearest(plain, training).label
    if now is not None and then is not None:
        kept = (now == then[found.example]).double().mean().item()
        words.append(f"The nearest training image is of the same class as before in {kept:.0%} of the alterations.")
    return [*words, "Whether a change has a name, such as a sleeve or a slant, is for the eye to judge."]


def _settings(group: Group) -> str:
    return (
        f"A VSC with pseudo-inputs, J = {group['J']}, has {group.mean('active'):.1f} latents on per example (ELBO "
        f"{group.mean('elbo'):.1f} nats)."
    )


def _title(found: Altered, k: int) -> str:
    return alteration(int(found.latent[k]), float(found.before[k]), float(found.after[k]))


STUDY = Study(
    title="One element of a code altered",
    source="ICLR figure 4, UAI",
    claim=(
        "Many of the non-zero elements of a sparse code control interpretable features of the generated observation, "
        "found by altering single ones of the few that are on."
    ),
    minutes=2,
    rows=models.many,
    draw=draw,
    needs=("images",),
    data="fashion-mnist",
)
