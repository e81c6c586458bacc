"""The runs that the studies of pictures share, so that a run that one has made is found again by the next."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vsc.settings.presets import PRESETS
from vsc.studies.base import Ask, Group, Row, Table, steps

J = 60
"""Latents of the UAI paper's example."""
ON = 6
"""Latents that a sparse model may have on per example, whatever its J; J / 2 where that is fewer."""

WARMED = f"0 -> 1 at {15 / 70} over {5 / 70}"
"""UAI's warm-up of lambda: 15 of its 70 epochs, then 5."""

AE, VAE, VSC, VSC_WU = "AE", "VAE", "VSC", "VSC-WU"
DYNAMIC, DYNAMIC_WU, FREE = "VSC dynamic", "VSC-WU dynamic", "VSC dynamic, free l0"
LEARNED, MIXTURE = "VSC learned alpha", "VSC mixture"

KINDS: dict[str, dict[str, Any]] = {
    AE: PRESETS["ae"][1],
    VAE: PRESETS["vae"][1],
    VSC: PRESETS["vsc"][1],
    VSC_WU: PRESETS["vsc-wu"][1],
    LEARNED: PRESETS["vsc-learned"][1],
    DYNAMIC: PRESETS["vsc-pseudo"][1],
    # UAI's warm-up alone: with the preset's slower KL as well, the limit on l0 shuts gates that never open again
    DYNAMIC_WU: PRESETS["vsc-pseudo"][1] | {"train.lam": "0 -> 1 at 0.2 over 0.1"},
    FREE: PRESETS["vsc-pseudo"][1] | {"train.target_l0": 0.0},
    MIXTURE: PRESETS["vsc-mixture"][1],
}
"""Name in tables and figures -> settings; `dynamic` is the prior of pseudo-inputs, `free` one without a limit on l0."""


def row(ask: Ask, kind: str, net: str, latents: int) -> Row:
    """
    Return one row.

    Parameters
    ----------
    ask : Ask
        What the user asked for; the first of its alphas counts.
    kind : str
        Name in `KINDS`.
    net : str
        `conv`, with the course report's budget in full (25 epochs of MNIST), or `mlp`, with UAI's.
    latents : int
        J.

    Returns
    -------
    Row
        With facets model, net and J.
    """
    settings: dict[str, Any] = {"model.net": net, "model.latent_dim": latents}
    if net == "conv":
        settings |= {"train.steps": steps(ask, 800, 25 * 54_000 // 256)}
        settings |= {"train.batch_size": 256} if ask.full else {}
        alpha = 0.1
    else:
        settings |= {"train.steps": steps(ask, 2000, 70_000), "model.hidden": (400,)}
        if ask.full:  # UAI: 1e-3 until the warm-up is over, then 1e-4
            settings |= {"train.batch_size": 500, "train.lr": f"1e-3 -> 1e-4 at {2 / 7}"}
        alpha = min(0.5, ON / latents)
    settings |= KINDS[kind]
    if ask.full and net == "mlp" and "train.lam" in settings:
        settings |= {"train.lam": WARMED}
    if settings["model.name"] == "vsc":
        settings |= {"model.alpha": ask.alphas[0] if ask.alphas else alpha}
    return Row({"model": kind, "net": net, "J": latents}, settings)


def planar(ask: Ask) -> list[Row]:
    """Return the four models of the course report: two latents, convolutional nets, a fixed prior."""
    return [row(ask, kind, "conv", 2) for kind in (AE, VAE, VSC, VSC_WU)]


def dense(ask: Ask, latents: int) -> list[Row]:
    """Return the same four with a hidden layer of 400, and the dynamic prior in both VSCs."""
    return [row(ask, kind, "mlp", latents) for kind in (AE, VAE, DYNAMIC, DYNAMIC_WU)]


def one(ask: Ask) -> Row:
    """Return the sparse model with the dynamic prior whose single codes are drawn."""
    return row(ask, DYNAMIC, "mlp", ask.dims[0] if ask.dims else J)


Numbers = Mapping[str, float | None]
"""Column -> value of one run; None where it has none."""


def widened(table: Table, groups: Sequence[Group], found: Sequence[Sequence[Numbers]]) -> Table:
    """
    Add columns to a table.

    Parameters
    ----------
    table : Table
        From `tabulate`.
    groups : sequence of Group
        Its rows.
    found : sequence of sequence of Numbers
        For each group, for each of its seeds.

    Returns
    -------
    Table
        With mean, and a column `NAME sd` where several seeds were measured.
    """
    several = any(len(group.jobs) > 1 for group in groups)
    names = list(dict.fromkeys(name for one in found for numbers in one for name in numbers))
    columns, rows = list(table.columns), [list(cells) for cells in table.rows]
    for name in names:
        columns += [name, f"{name} sd"] if several else [name]
        for cells, one in zip(rows, found, strict=True):
            values = [value for numbers in one if (value := numbers.get(name)) is not None]
            cells += [statistics.fmean(values) if values else None]
            cells += [statistics.stdev(values) if len(values) > 1 else None] if several else []
    return Table(tuple(columns), [tuple(cells) for cells in rows])


def mean(found: Sequence[Numbers], name: str) -> float:
    """Return the mean over the seeds of what was found."""
    return statistics.fmean(value for numbers in found if (value := numbers[name]) is not None)
