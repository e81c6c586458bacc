"""Which latents are on for which class (course report, section 5.2; UAI figure 6)."""

import numpy as np
import torch

from vsc.plots.charts import class_maps
from vsc.studies import models
from vsc.studies.base import Ask, Finding, Group, Numbers, Row, Study, parted, tabulate

FEW = 12
"""Latents up to which they keep their order."""
RANGE, DIFFER = "range of gamma over classes", 0.1
"""How far a used latent's mean spike probability ranges over the classes, and from where on they count as different."""
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
    used = (codes.active.double().mean(0) > 0.01).numpy()
    spiked = group.model(seed).spiked
    numbers: dict[str, float | None] = {
        "mean |code|": float(size.mean()),
        "its variation over classes": float(size.std() / size.mean()) if size.mean() else None,
        RANGE: float(np.ptp(gamma[:, used], 0).mean()) if spiked and used.any() else None,
    }
    if len(size) <= SHOWN:
        numbers |= {f"|code|, {name}": float(v) for name, v in zip(ask.data.classes, size, strict=True)}
        for name, v in zip(ask.data.classes, gamma.mean(1), strict=True):
            numbers[f"gamma, {name}"] = float(v) if spiked else None
    return numbers


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw mean codes and mean spike probabilities by class."""
    found = models.described(ask, groups, describe)
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
    words = []
    for latents in parted(groups, "J"):
        own = [(group, one) for group, one in zip(groups, found, strict=True) if group["J"] == latents]
        words += _sentences(latents, own)
    columns = ("active", "l0", "used", "always_on", "dead", "class-selectivity", "elbo", "probe")
    table = tabulate(groups, columns, found)
    return Finding(figure, "For each model a map of classes by latents.", table, words)


def _sentences(J: int, own: list[tuple[Group, list[Numbers]]]) -> list[str]:
    by_name = {group["model"]: (group, one) for group, one in own}
    sparse = [name for name in by_name if by_name[name][0].model().spiked]
    vsc, warm = sparse[0], sparse[1]
    group = by_name[vsc][0]
    words = [
        f"J = {J}: every latent of AE and VAE is on for every example; {vsc} has {group.mean('active'):.1f} of {J} on "
        f"per example, uses {group.mean('used'):.3g} and keeps {group.mean('always_on'):.3g} always on."
    ]
    selectivity = {name: by_name[name][0].mean("class-selectivity") for name in (models.AE, models.VAE, vsc, warm)}
    listed = ", ".join(f"{name} {value:.2f}" for name, value in selectivity.items())
    ranges = by_name[vsc][1][0][RANGE]
    said = f"Class selectivity: {listed}"
    if ranges is not None:
        ranges = models.mean([numbers for numbers in by_name[vsc][1] if numbers[RANGE] is not None], RANGE)
        holds = ranges > DIFFER and not selectivity[vsc] < selectivity[models.VAE]
        said += (
            f"; that VSC has different latents on for different classes {'holds' if holds else 'does not show'}: mean "
            f"spike probabilities of used latents range over {ranges:.2f} between classes"
        )
    words.append(said + ".")
    size = {name: models.mean(by_name[name][1], "mean |code|") for name in (vsc, warm)}
    spread = {
        name: models.mean(by_name[name][1], "its variation over classes")
        for name in (vsc, warm)
        if by_name[name][1][0]["its variation over classes"] is not None
    }
    lower = size[warm] < size[vsc]
    sentence = f"{warm}'s values are {'lower' if lower else 'not lower'} ({size[warm]:.3f} against {size[vsc]:.3f})"
    if len(spread) == 2:
        even = spread[warm] < spread[vsc]
        sentence += (
            f" and {'more' if even else 'not more'} homogeneous over the classes (coefficient of variation "
            f"{spread[warm]:.2f} against {spread[vsc]:.2f})"
        )
    words.append(sentence + ".")
    used = {name: by_name[name][0].mean("used") for name in (vsc, warm)}
    words.append(
        f"The warm-up {'keeps more latents in use' if used[warm] > used[vsc] else 'keeps no more latents in use'}: "
        f"{used[warm]:.3g} against {used[vsc]:.3g}."
    )
    return words


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
