"""The decoded plane of two latents (course report, section 5.1)."""

import numpy as np
import torch

from vsc.model.sampling import decode
from vsc.plots.pictures import mosaics
from vsc.studies import models
from vsc.studies.base import Ask, Finding, Group, Numbers, Study, described, tabulate
from vsc.studies.nearest import known, nearest, rms

SIDE, REACH = 10, 2.0


def grid(group: Group, seed: int = 0) -> np.ndarray:
    """Return the decoded grid, (100, M): z_1 grows along a row, z_2 from row to row."""
    line = np.linspace(-REACH, REACH, SIDE)
    z2, z1 = np.meshgrid(line, line, indexing="ij")
    return decode(group.model(seed), np.stack([z1.ravel(), z2.ravel()], 1))


def describe(ask: Ask, group: Group, seed: int) -> Numbers:
    """Return how far neighbouring cells differ, what they show, and how much of the data the square holds."""
    model = group.model(seed)
    pictures = torch.from_numpy(grid(group, seed))
    cells = pictures.reshape(SIDE, SIDE, -1)
    steps = [rms(cells[:, 1:] - cells[:, :-1]), rms(cells[1:] - cells[:-1])]
    codes = group.measured(ask.data, seed).codes.hard
    numbers: dict[str, float | None] = {
        "change per cell (RMS)": torch.cat([step.flatten() for step in steps]).mean().item(),
        "codes in the square": (codes.abs() <= REACH).all(1).double().mean().item(),
    }
    found = nearest(pictures, known(ask, model))
    numbers["distance to training"] = found.distance.mean().item()
    if found.label is not None:
        label = found.label.reshape(SIDE, SIDE)
        same = [(label[:, 1:] == label[:, :-1]).flatten(), (label[1:] == label[:-1]).flatten()]
        numbers["neighbours of one class"] = torch.cat(same).double().mean().item()
        numbers["classes shown"] = len(label.unique())
    return numbers


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw the planes, and say how orderly they are."""
    groups = described(ask, groups, describe)

    def of(name: str) -> dict[str, float]:
        return {group["model"]: group.mean(name) for group in groups}

    # the highest z_2 on top
    planes = {g["model"]: grid(g).reshape(SIDE, SIDE, -1)[::-1].reshape(SIDE**2, -1) for g in groups}
    figure = mosaics(planes, ask.data.shape, SIDE, ("$z_1$", "$z_2$"), REACH)
    step, inside = of("change per cell (RMS)"), of("codes in the square")
    words = [f"From cell to cell the picture changes by {_listed(step, '.3f')} (RMS per pixel)."]
    words.append(f"The square from -2 to 2 holds {_listed(inside, '.0%')} of the test codes.")
    ae, vae, vsc, warm = models.AE, models.VAE, models.VSC, models.VSC_WU
    if ask.data.classes:
        same, shown = of("neighbours of one class"), of("classes shown")
        words.append(
            f"Neighbours show the same class (that of the nearest training image) in {_listed(same, '.0%')} of all "
            f"pairs, and the cells show {_listed(shown, '.3g')} of {len(ask.data.classes)} classes."
        )
        better = shown[vae] > shown[ae] and inside[vae] > inside[ae]
        words.append(
            f"That the VAE's plane is better organised than the AE's {'holds' if better else 'does not show'}: "
            f"{shown[vae]:.3g} classes against {shown[ae]:.3g} in the same square, which holds {inside[vae]:.0%} of "
            f"its codes against {inside[ae]:.0%}."
        )
        larger, fewer = same[vsc] > same[vae], shown[vsc] < shown[vae]
        verdict = (
            "are no larger than" if not larger else "are larger than" if not fewer else "are fewer, and larger than"
        )
        words.append(f"VSC's regions of one class {verdict} the VAE's.")
    smoother = step[warm] < step[vsc]
    words.append(f"The warm-up's plane {'is smoother than' if smoother else 'is not smoother than'} VSC's.")
    columns = ("elbo", "mse", "active", "used", "always_on", "probe", "minutes")
    alt = "For each model ten by ten decoded pictures of the latent plane."
    return Finding(figure, alt, tabulate(groups, columns), words)


def _listed(values: dict[str, float], form: str) -> str:
    parts = [f"{value:{form}} ({name})" for name, value in values.items()]
    return ", ".join(parts[:-1]) + f" and {parts[-1]}"


STUDY = Study(
    title="The decoded plane of two latents",
    source="course report, section 5.1",
    claim=(
        "The AE's plane has minimal structure, the VAE's is better organised with gradual transitions; VSC should "
        "show a distinct cluster for each digit but does not, and VSC-WU should show smoother transitions between "
        "clusters."
    ),
    minutes=3,
    rows=models.planar,
    draw=draw,
    needs=("images",),
)
