"""The runs that the studies of pictures share, so that a run that one has made is found again by the next."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vsc.plots.drawing import class_label
from vsc.settings.presets import PRESETS
from vsc.studies.base import Ask, Row, steps

J = 60
"""Latents of the UAI paper's example."""
ON = 6
"""Latents that a sparse model may have on per example, whatever its J; J / 2 where that is fewer."""

WARMED = f"0 -> 1 at {15 / 70} over {5 / 70}"
"""UAI's warm-up of lambda: 15 of its 70 epochs, then 5."""

AE, VAE, VSC, VSC_WU = "AE", "VAE", "VSC", "VSC-WU"
DYNAMIC, DYNAMIC_WU, FREE = "VSC dynamic", "VSC-WU dynamic", "VSC dynamic, free l0"
LEARNED, MIXTURE = "VSC learned alpha", "VSC mixture"

PSEUDO = {"model.name": "vsc", "model.gates": "pseudo-inputs"}

KINDS: dict[str, dict[str, Any]] = {
    AE: PRESETS["ae"][1],
    VAE: PRESETS["vae"][1],
    VSC: PRESETS["vsc-fixed"][1],
    VSC_WU: PRESETS["vsc-wu"][1],
    LEARNED: PRESETS["vsc-learned"][1],
    DYNAMIC: PSEUDO,
    # UAI's warm-up alone: with the preset's slower KL as well, the limit on l0 shuts gates that never open again
    DYNAMIC_WU: PSEUDO | {"train.lam": "0 -> 1 at 0.2 over 0.1"},
    FREE: PSEUDO | {"train.cap": 1.0},
    MIXTURE: PRESETS["vsc-mixture"][1],
}
"""Name in tables and figures -> settings; `dynamic` is the prior of pseudo-inputs, `free` one without a limit on l0."""


def row(ask: Ask, kind: str, net: str, latents: int) -> Row:
    """
    Return one of `KINDS` with facets model, net and J; of the alphas asked for, the first counts.

    The net is `conv`, with the course report's budget in full (25 epochs of MNIST), or `mlp`, with UAI's.
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
    if settings.get("model.gates") in ("fixed", "learned"):
        settings |= {"model.alpha": ask.alphas[0] if ask.alphas else alpha}
    return Row({"model": kind, "net": net, "J": latents}, settings)


def planar(ask: Ask) -> list[Row]:
    """Return the four models of the course report: two latents, convolutional nets, a fixed prior."""
    return [row(ask, kind, "conv", 2) for kind in (AE, VAE, VSC, VSC_WU)]


def dense(ask: Ask, latents: int) -> list[Row]:
    """Return the same four with a hidden layer of 400, and the dynamic prior in both VSCs."""
    return [row(ask, kind, "mlp", latents) for kind in (AE, VAE, DYNAMIC, DYNAMIC_WU)]


def many(ask: Ask, kinds: Sequence[str] = (DYNAMIC,)) -> list[Row]:
    """Return models with a hidden layer and many latents; without kinds, that whose single codes are drawn."""
    return [row(ask, kind, "mlp", ask.dims[0] if ask.dims else J) for kind in kinds]


def captions(ask: Ask, chosen: Tensor) -> list[str]:
    """Return what stands beside test examples: their classes, or their numbers."""
    y = ask.data.test.y
    label = None if y is None else y[chosen].numpy()
    return [class_label(label, i, ask.data.classes) for i in range(len(chosen))]
