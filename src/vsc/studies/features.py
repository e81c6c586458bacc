"""Features with known answers: do latents find them, and at which l0 (Chanin and Garriga-Alonso 2026)."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsc.data.synth import World, world
from vsc.measure.measured import Measured, linear_directions, pick
from vsc.metrics import Detection, cosines, detection
from vsc.plots.charts import Curve, lines
from vsc.settings.config import Config
from vsc.settings.presets import PRESETS, changed
from vsc.settings.resolve import schedules
from vsc.studies.base import Ask, Finding, Group, Picture, Row, Study, curve, parted, steps, tabulate

FREE = ("vsc-linear", "vsc-lista")
"""Models that are not told how many latents are to be on."""
ASKED = ("topk", "batch-topk", "matryoshka", "jumprelu", "gated", "vaease")
"""Models that are."""
L0, FULL_L0 = (3.0, 4.0, 5.0, 6.0, 8.0), (15.0, 20.0, 25.0, 30.0, 35.0, 45.0)
"""What they are told, in the quick form and in the published one."""
J, FULL_J = 256, 4096
METRICS = ("feature-f1", "feature-mcc", "feature-uniqueness", "fvu", "shrinkage")

FOUND = 0.9
"""F1 from which on a latent has found its nearest feature."""
FREQUENT = 0.01
"""Rate above which a feature counts as frequent."""
MIXED = 0.4
"""Cosine with a second feature from which on a latent mixes two: no two true directions are so near by chance."""
ABSORBED = 0.5
"""Share of a parent's examples with a child in which its latent is on, below which the child has absorbed it."""
WRONG = (
    "frequent children missed whose parent is found",
    "parents absorbed by a child",
    "latents of two features",
    "latents with a feature that another has too",
    "dead",
)
"""What a model gets wrong, in the words of the page."""
BINS = 8
"""Bins of equal numbers of the features that the curve over rates is drawn of."""


def rows(ask: Ask) -> list[Row]:
    """Return every model, those that are told an l0 at several; the best of these is chosen on the validation rows."""
    pick(ask.data, "valid")
    common = {
        "train.steps": steps(ask, 2000, 195_312),
        "train.batch_size": 1024,
        "model.latent_dim": (ask.dims or (FULL_J if ask.full else J,))[0],
        "data.scale": "whole",
    }
    found = []
    for name in (*FREE, *ASKED):
        title, settings = PRESETS[name]
        settings = common | settings
        told = name in ASKED and "target_l0" in schedules(changed(Config(), settings).model)
        for l0 in (FULL_L0 if ask.full else L0) if told else ("own",):
            found.append(
                Row({"model": title, "l0 asked": l0}, settings | ({"train.target_l0": l0} if told else {}), METRICS)
            )
    return found


class Errors(NamedTuple):
    """What a model gets wrong: how well it detects each of F features, and numbers of features or latents."""

    f1: float  # mean over the latents, each as a detector of the feature that is nearest
    best: NDArray[np.float64]  # (F,), the largest F1 of the latents that are nearest to each feature; 0 without any
    frequent: float  # share of the frequent features that some latent has found
    swallowed: int  # frequent children that are not found though their parent is
    absorbed: int  # parents with a latent that is off in most examples where a certain child fires, on in most others
    mixed: int  # latents whose direction is near those of two features
    repeated: int  # latents whose nearest feature is another one's too


def errors(known: Detection, z: NDArray, fires: NDArray, alike: NDArray, truth: World) -> Errors:
    """Say what is wrong, of codes `z` (N, J), where features fire (N, F), and cosines `alike` (J, F) of the two."""
    F, parents = len(truth.rates), truth.parents.numpy()
    frequent = truth.rates.numpy() > FREQUENT
    best = np.zeros(F)
    np.maximum.at(best, known.feature, known.f1)
    found = best >= FOUND
    missed = frequent & ~found & (parents >= 0)
    absorbed = set()
    for latent, feature in enumerate(known.feature):
        for child in np.flatnonzero(parents == feature):
            there, alone = fires[:, child], fires[:, feature] & ~fires[:, child]
            with_child, without = ((z[rows, latent] != 0).mean() if rows.any() else 0.5 for rows in (there, alone))
            if with_child < ABSORBED < without:
                absorbed.add(int(feature))
    second = np.partition(alike, -2, axis=1)[:, -2]
    counts = np.bincount(known.feature, minlength=F)
    return Errors(
        f1=float(known.f1.mean()),
        best=best,
        frequent=float(found[frequent].mean()) if frequent.any() else math.nan,
        swallowed=int(found[parents[missed]].sum()),
        absorbed=len(absorbed),
        mixed=int((second > MIXED).sum()),
        repeated=int((counts[known.feature] > 1).sum()),
    )


def looked(ask: Ask, group: Group, seed: int) -> Errors:
    """Look at a run on the validation rows, so that whatever is chosen by it is not chosen on the test rows."""
    seen, truth = Measured(group.model(seed), ask.data, "valid"), world(ask.data.name)
    weight = linear_directions(seen.model.decoder, truth.plan.width)
    assert weight is not None, "all of these decoders are linear"
    directions = (seen.model.scaler.inverse(weight) - seen.model.scaler.shift).detach().numpy()
    z, fires = seen.codes.hard.numpy(), ask.data.valid.extras["fires"].numpy()
    known = detection(z, fires, directions, truth.directions.numpy())
    return errors(known, z, fires, cosines(directions, truth.directions.numpy(), directed_a=False), truth)


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw F1, MCC and unexplained variance over the l0 that came out, and which features are found."""
    seen = {group.row.label: [looked(ask, group, i) for i in range(len(group.jobs))] for group in groups}
    groups = [replace(group, found=list(map(_numbers, seen[group.row.label]))) for group in groups]
    models = parted(groups, "model")

    def f1(group: Group) -> float:
        return statistics.fmean(one.f1 for one in seen[group.row.label])

    best = {name: max(own, key=f1) for name, own in models.items()}
    truth, dim = world(ask.data.name), groups[0].config.model.latent_dim
    reach = float(truth.rates.sort(descending=True).values[:dim].sum())
    panels = {
        title: {name: _over_l0(own, metric) for name, own in models.items()}
        for title, metric in (("F1 as detectors", METRICS[0]), ("MCC of the dictionary", METRICS[1]), ("FVU", "fvu"))
    }
    for curves in panels.values():
        heights = [y for one in curves.values() for y in one.y]
        curves[f"l0 of the {dim} most frequent features"] = Curve(
            [reach] * 2, [min(heights), max(heights)], dashed=True
        )
    figure = lines(panels, "latents on (per example)", ("F1", "MCC", "unexplained share"))
    more = lines(
        {
            title: {name: _by_rate(seen[group.row.label], truth, dim, at) for name, group in best.items()}
            for title, at in ((f"found (F1 at least {FOUND:g})", FOUND), ("F1 of the best latent", None))
        },
        "rate of the feature (log scale)",
        ("share of the features", "mean F1"),
        log=True,
    )
    table = tabulate(groups, ("active", *METRICS, "dead", "minutes"))
    words = [
        f"The world has {len(truth.rates)} features in {truth.plan.width} dimensions; {truth.l0:.1f} of them fire in a "
        f"row, and {reach:.1f} of the {dim} most frequent. There are {dim} latents. Models that are told an l0 are "
        "compared at the value with the best F1 on the validation rows; F1, MCC and FVU are of the test rows.",
        _verdict(best),
        _elsewhere([group for group in groups if group["l0 asked"] != "own"]),
        *(_said(name, group) for name, group in best.items()),
    ]
    alt = "F1, MCC and FVU against the number of latents that are on."
    return Finding(figure, alt, table, words, {"found": Picture(more, "How well features are found, over their rate.")})


def _over_l0(own: Sequence[Group], metric: str) -> Curve:
    return curve(own, "l0 asked", metric)._replace(x=[group.mean("active") for group in own])


def _numbers(wrong: Errors) -> dict[str, float]:
    return {
        f"found of rate > {FREQUENT:g}": wrong.frequent,
        "children missed": wrong.swallowed,
        "parents absorbed": wrong.absorbed,
        "latents of two": wrong.mixed,
        "latents repeated": wrong.repeated,
    }


def _by_rate(runs: Sequence[Errors], truth: World, dim: int, at: float | None) -> Curve:
    """Return F1, or the share of it that is `at` least so high, in bins of rates down to twice as many as latents."""
    order = truth.rates.argsort(descending=True).numpy()[: 2 * dim]
    shown = np.mean([one.best if at is None else one.best >= at for one in runs], 0)
    bins = np.array_split(order, BINS)
    return Curve([float(f"{truth.rates[b].mean():.2g}") for b in bins], [float(shown[b].mean()) for b in bins])


def _verdict(best: dict[str, Group]) -> str:
    """Say whether a model that is not told its l0 is above all that are."""
    free = [name for name, group in best.items() if group.row.facets["model"] in {PRESETS[one][0] for one in FREE}]
    said = []
    for name in free:
        places = []
        for what, metric in (("F1", METRICS[0]), ("MCC", METRICS[1])):
            peer = max((other for other in best if other not in free), key=lambda other: best[other].mean(metric))
            gain = best[name].mean(metric) - best[peer].mean(metric)
            spread = math.hypot(best[name].spread(metric), best[peer].spread(metric))
            place = "level with" if abs(gain) <= spread else "above" if gain > 0 else "below"
            places.append(f"{place} the best of the others in {what} ({gain:+.3f} against {peer})")
        said.append(f"{name}, not told any l0, is {' and '.join(places)}")
    return "; ".join(said) + "."


def _elsewhere(told: Sequence[Group]) -> str:
    """Say what the others reach in each measure at whatever l0."""
    parts = []
    for what, metric, other in (("F1", METRICS[0], METRICS[1]), ("MCC", METRICS[1], METRICS[0])):
        top = max(told, key=lambda group: group.mean(metric))
        beside = f"with an {'MCC' if what == 'F1' else 'F1'} of {top.mean(other):.3f}"
        parts.append(f"{what} {top.mean(metric):.3f} {beside}, {top.row.label}")
    return f"The highest of the others at whatever l0: {'; '.join(parts)}."


def _said(name: str, group: Group) -> str:
    share, *counts = map(group.mean, group.found[0])
    asked = "" if group["l0 asked"] == "own" else f", asked {group['l0 asked']:g}"
    f1, mcc, unexplained, dead = (group.mean(name) for name in (*METRICS[:2], "fvu", "dead"))
    wrong = [f"{count:.3g} {what}" for count, what in zip([*counts, dead], WRONG, strict=True) if count]
    return (
        f"{name} ({group.mean('active'):.1f} on{asked}): F1 {f1:.3f}, MCC {mcc:.3f}, FVU {unexplained:.3f}; "
        f"{share:.0%} of the features of rate above {FREQUENT:g} found" + (f", {', '.join(wrong)}." if wrong else ".")
    )


STUDY = Study(
    title="Features with known answers",
    source="SynthSAEBench, Chanin and Garriga-Alonso 2026",
    claim="Sparse autoencoders that reconstruct better do not find the true features better, and the l0 that they are "
    "told trades the precision of their latents for recall.",
    minutes=25,
    rows=rows,
    draw=draw,
    needs=("features",),
    data="synth",
    full_data="synth-16k",
)
