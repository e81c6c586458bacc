"""Models by name: the settings that differ from the common ones."""

import shlex
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from vsc.errors import UsageError, choose, short
from vsc.settings.config import Config

SAE = {"model.net": "linear", "model.likelihood": "gaussian-fixed", "data.scale": "whole"}
"""What sparse autoencoders have in common: a dictionary, and squared error of inputs on one scale."""

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "ae": ("AE", {"model.name": "ae"}),
    "vae": ("VAE", {"model.name": "vae"}),
    "beta-vae": ("beta-VAE (beta 4)", {"model.name": "vae", "train.beta": 4.0}),
    "vsc": ("VSC", {"model.name": "vsc"}),
    "vsc-fixed": ("VSC, fixed prior", {"model.name": "vsc", "model.gates": "fixed"}),
    # While lambda is 0 a slab says nothing, so a full KL, a sharp gradient (T < 1) or a large rate shuts every gate for
    # good: the KL rises with lambda, T = 1 keeps a gradient on shut gates, and the rate is the sources'.
    "vsc-wu": (
        "VSC with warm-up",
        {
            "model.name": "vsc",
            "model.gates": "fixed",
            "train.lam": "0 -> 1 at 0.2 over 0.1",
            "train.beta": "0 -> 1 at 0 over 0.3",
            "train.relaxation": 1.0,
            "train.lr": 1e-3,
        },
    ),
    "vsc-learned": ("VSC, learned alpha", {"model.name": "vsc", "model.gates": "learned"}),
    "vsc-mixture": ("VSC, mixture of gates", {"model.name": "vsc", "model.gates": "mixture"}),
    "vsc-iclr": (
        "VSC, ICLR recipe",
        {
            "model.name": "vsc",
            "model.gates": "fixed",
            "model.spikes": "sigmoid",
            "model.head": "log-relu",
            "train.beta": 1.0,
            "train.lr": 1e-3,
        },
    ),
    "vsc-uai": (
        "VSC, UAI recipe",
        {
            "model.name": "vsc",
            "model.gates": "pseudo-inputs",
            "model.components": 20,
            "train.penalty": 1.0,
            "train.lam": f"0 -> 1 at {15 / 70:.4f} over {5 / 70:.4f}",
            "train.beta": 1.0,
            "train.lr": f"1e-3 -> 1e-4 at {20 / 70:.4f}",
        },
    ),
    # Of scale whole the likelihood is gaussian-shared, and a latent of l0 that are on is about sqrt(M / l0), which a
    # slab from 0 hardly gets to. A gate is not worth its price before its direction is found: the KL rises late.
    "vsc-linear": (
        "VSC, linear",
        LINEAR := {
            "model.name": "vsc",
            "model.net": "linear",
            "model.gates": "learned",
            "model.slab": "learned",
            "model.slab_mean": 4.0,
            "model.spikes": "analytic",
            "data.scale": "whole",
            "train.beta": "0 -> 1 at 0 over 0.3",
        },
    ),
    "vsc-lista": ("VSC, linear, two refinements", LINEAR | {"model.net": "lista"}),
    "beta-tcvae": ("beta-TCVAE (beta 4)", {"model.name": "tcvae", "train.total_correlation": 3.0}),
    "laplace": ("Laplace VAE", {"model.name": "laplace"}),
    "thresholded-laplace": ("thresholded Laplace", {"model.name": "thresholded-laplace"}),
    # a Gaussian's tail is thin: with the default estimator all gates can shut, of the digits too, and stay so
    "thresholded-normal": ("thresholded Gaussian", {"model.name": "thresholded-normal", "model.spikes": "mean"}),
    "topk": ("TopK", {"model.name": "topk", **SAE}),
    "batch-topk": ("BatchTopK", {"model.name": "batch-topk", **SAE}),
    "jumprelu": ("JumpReLU", {"model.name": "jumprelu", **SAE}),
    "gated": ("Gated", {"model.name": "gated", **SAE}),
    "matryoshka": ("Matryoshka BatchTopK", {"model.name": "matryoshka", **SAE}),
    "vaease": ("VAEase", {"model.name": "vaease", **SAE, "model.likelihood": "gaussian-shared"}),
}
"""What can be compared: name -> (title, the settings that differ from the common ones)."""

RENAMED = {"vsc-paper": "vsc-iclr", "vsc-pseudo": "vsc"}
"""Names of earlier versions -> what to type now."""

SUITS: dict[str, tuple[str, float | None]] = {
    # grey cross-entropy of 64 pixels is nearly all constant; squared error shows what the codes hold
    "digits": ("gaussian-fixed", 0.02),
    "fashion-mnist": ("bernoulli", None),  # the sources'
}
"""Data sets with a likelihood other than their kind's -> it and its variance, where these are open."""


DEMO = {
    "digits": "",
    # each part of a face is there half the time
    "smiley": "--data smiley --models vae,vsc --latent-dim 40 --steps 1000 --cap 0.55",
}
"""What `vsc demo` compares: folder -> what `vsc compare` is given besides."""


def changed(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return `config` with dotted settings replaced, such as {"train.beta": 4.0}; UsageError of a name that is none."""
    parts: dict[str, dict[str, Any]] = {}
    for dotted, value in settings.items():
        part, _, name = dotted.partition(".")
        if not hasattr(getattr(Config(), part, None), name):
            raise no_setting(dotted)
        parts.setdefault(part, {})[name] = value
    return replace(config, **{part: replace(getattr(config, part), **own) for part, own in parts.items()})


def named(name: str, what: str = "model") -> tuple[str, dict[str, Any]]:
    """Return the title and settings of a name in `PRESETS`, or say what it is called now, or which is nearest."""
    if name in RENAMED:
        raise UsageError(f"the model {name} is now called {RENAMED[name]}")
    return choose(PRESETS, name, what)


def no_setting(name: str) -> UsageError:
    """Say that there is no setting of a name, or none that may be given there."""
    return UsageError(
        f"settings cannot have {short(name)}; names are dotted, as in {{'train.lr': 1e-3}}: those of "
        "vsc.ModelConfig, vsc.TrainConfig and, of how values are taken, vsc.DataConfig"
    )


def preset(name: str, settings: Mapping[str, Any] | None = None) -> Config:
    """
    Return the settings that a model's name stands for.

    Parameters
    ----------
    name : str
        One of `vsc.settings.presets.PRESETS`, such as `vsc-linear`, `batch-topk` or `beta-vae`.
    settings : mapping of str to Any, optional
        Dotted settings on top of these, such as `{"model.latent_dim": 256, "train.target_l0": 8}`.

    Returns
    -------
    Config
        For `vsc.train`.

    Raises
    ------
    UsageError
        If there is no such name, or a setting has another type.
    """
    return changed(changed(Config(), named(name, "preset")[1]), settings or {})


def training_command(config: Config, folder: Path | None = None) -> str:
    """Return the command that trains with settings: those that are no defaults, and the folder, if one is given."""
    words = ["vsc", "train"]
    for group in fields(Config):
        part, default = getattr(config, group.name), getattr(Config(), group.name)
        for one in fields(part):
            value = getattr(part, one.name)
            if value != getattr(default, one.name):
                words += [f"--{group.name}.{one.name}", word(value)]
    return shlex.join([*words, *(["--out", str(folder)] if folder else [])])


def word(value: Any) -> str:
    """Write a setting's value as it is typed."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)
