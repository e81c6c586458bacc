"""Which latents are on for which class (course report, section 5.2; UAI figure 6)."""

import numpy as np
import torch

from vsc.metrics.sparsity import USED
from vsc.plots.charts import class_maps
from vsc.studies import models
from vsc.studies.base import Ask, Finding, Group, Numbers, Row, Study, described, parted, tabulate

FEW = 12
"""Latents up to which they keep their order."""
RANGE, DIFFER = "range of gamma over classes", 0.1
"""How far a used latent's mean spike probability ranges over the classes, and from where on they count as different."""
SIZE, VARIES = "mean |code|", "its variation over classes"
SHOWN = 12
"""Classes up to which the table has columns for each."""


def rows(ask: Ask) -> list[Row]:
    """Return the report's models of two latents, where there are images, and the same with many."""
    many = [row for latents in ask.dims or (models.J,) for row in models.dense(ask, latents)]
    few = models.planar(ask) if ask.image else []
    return [row._replace(metrics=("class-selectivity",)) for row in few + many]


def by_class(ask: Ask, values: torch.Tensor) -> np.ndarray:
    """Return the mean of each latent over the test examples of each class, (C, J); 0 of a class without any."""
    y = ask.data.test.y
    assert y is not None
    rows = [values[y == label] for label in range(len(ask.data.classes))]
    return torch.stack([row.mean(0) if len(row) else values.new_zeros(values.shape[1]) for row in rows]).numpy()


def describe(ask: Ask, group: Group, seed: int) -> Numbers:
    """Return sizes of the code and open gates for each class, and how much they differ over the classes."""
    codes = group.measured(ask.data, seed).codes
    size = by_class(ask, codes.z.abs()).mean(1)  # (C,)
    gamma = by_class(ask, codes.gamma)
    used = (codes.active.double().mean(0) > USED).numpy()
    spiked = group.model(seed).spiked
    numbers: dict[str, float | None] = {
        SIZE: float(size.mean()),
        VARIES: float(size.std() / size.mean()) if size.mean() else None,
        RANGE: float(np.ptp(gamma[:, used], 0).mean()) if spiked and used.any() else None,
    }
    if len(size) <= SHOWN:
        numbers |= {f"|code|, {name}": float(v) for name, v in zip(ask.data.classes, size, strict=True)}
        for name, v in zip(ask.data.classes, gamma.mean(1), strict=True):
            numbers[f"gamma, {name}"] = float(v) if spiked else None
    return numbers


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw mean codes and mean spike probabilities by class."""
    groups = described(ask, groups, describe)
    maps = {}
    for group in groups:
        codes = group.measured(ask.data).codes
        code, gamma = by_class(ask, codes.z), by_class(ask, codes.gamma)
        spiked = group.model().spiked
        strength = gamma if spiked else np.abs(code)
        order = np.lexsort((-strength.max(0), strength.argmax(0)))  # by class, the strongest first
        order = order if len(order) > FEW else np.arange(len(order))
        name = f"{group['model']}, J = {group['J']}"
        maps[name] = [("mean code", code[:, order])]
        maps[name] += [("mean gamma", gamma[:, order])] if spiked else []
    figure = class_maps(maps, ask.data.classes, "latents, ordered by the class that each is strongest for")
    words = [sentence for J, own in parted(groups, "J").items() for sentence in _sentences(J, own)]
    columns = ("active", "l0", "used", "always_on", "dead", "class-selectivity", "elbo", "probe")
    return Finding(figure, "For each model a map of classes by latents.", tabulate(groups, columns), words)


def _sentences(J: int, own: list[Group]) -> list[str]:
    by_name = {group["model"]: group for group in own}
    vsc, warm = [group for group in own if group.model().spiked][:2]
    listed = (by_name[models.AE], by_name[models.VAE], vsc, warm)
    selectivity = ", ".join(f"{group['model']} {group.mean('class-selectivity'):.2f}" for group in listed)
    said = f"Class selectivity: {selectivity}"
    if vsc.values(RANGE):
        selective = not vsc.mean("class-selectivity") < by_name[models.VAE].mean("class-selectivity")
        holds = "holds" if vsc.mean(RANGE) > DIFFER and selective else "does not show"
        said += (
            f"; that VSC has different latents on for different classes {holds}: mean spike probabilities of used "
            f"latents range over {vsc.mean(RANGE):.2f} between classes"
        )
    lower = "lower" if warm.mean(SIZE) < vsc.mean(SIZE) else "not lower"
    values = f"{warm['model']}'s values are {lower} ({warm.mean(SIZE):.3f} against {vsc.mean(SIZE):.3f})"
    if vsc.values(VARIES) and warm.values(VARIES):
        even = "more" if warm.mean(VARIES) < vsc.mean(VARIES) else "not more"
        values += (
            f" and {even} homogeneous over the classes (coefficient of variation {warm.mean(VARIES):.2f} against "
            f"{vsc.mean(VARIES):.2f})"
        )
    kept = "keeps more latents in use" if warm.mean("used") > vsc.mean("used") else "keeps no more latents in use"
    return [
        f"J = {J}: every latent of AE and VAE is on for every example; {vsc['model']} has {vsc.mean('active'):.1f} of "
        f"{J} on per example, uses {vsc.mean('used'):.3g} and keeps {vsc.mean('always_on'):.3g} always on.",
        said + ".",
        values + ".",
        f"The warm-up {kept}: {warm.mean('used'):.3g} against {vsc.mean('used'):.3g}.",
    ]


STUDY = Study(
    title="Latents that are on, by class",
    source="course report, section 5.2; UAI figure 6",
    claim=(
        "The AE is densely active without selection, the VAE more balanced but overlapping; VSC is clearly sparse, "
        "with different latents on for different digits; VSC-WU the same with lower, more homogeneous values, and "
        "only more latents could show whether the warm-up avoids collapse."
    ),
    minutes=3,
    rows=rows,
    draw=draw,
    needs=("labels",),
)
