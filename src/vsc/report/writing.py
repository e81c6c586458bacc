"""One trained run, measured on a split and written up: what each of its latents does, on one page."""

import json
import shlex
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vsc import report
from vsc.data.split import Dataset
from vsc.errors import UsageError
from vsc.measure import effects as influence
from vsc.measure import latents as features
from vsc.measure import scores as evaluation
from vsc.measure.showcase import choose_examples
from vsc.model import Autoencoder
from vsc.settings.config import Config, as_plain
from vsc.training import runs

EXAMPLES = 12
"""Examples on the page: one of each class first."""


def write(
    folder: Path,
    model: Autoencoder,
    data: Dataset,
    split: str = "test",
    path: Path | None = None,
    scores: evaluation.Scores | None = None,
) -> Path:
    """
    Write the page of one run.

    Parameters
    ----------
    folder : Path
        The run folder.
    model : Autoencoder
        Its model, in eval mode, on the CPU.
    data : Dataset
        The data that it was trained on.
    split : str
        `test` or `valid`.
    path : Path, optional
        The file to write; by default report.html in the run folder.
    scores : Scores, optional
        On this split, if they are known; measured here otherwise.

    Returns
    -------
    Path
        Where the page lies.

    Raises
    ------
    UsageError
        If the split is not one of the two or is empty, or the data are not laid out as those of the run.
    OSError
        If the page cannot be written.
    """
    config = runs.read_config(folder)
    check(model, data, split)
    scores = evaluation.evaluate(model, data, config, split) if scores is None else scores
    history = runs.read_history(folder)
    label = type(model).__name__
    with torch.no_grad(), evaluation.seeded(0):
        x = evaluation.inputs(model, evaluation.pick(data, split).x, config)
        material = collect(model, data, split, x)
        chosen = choose_examples(evaluation.pick(data, split), EXAMPLES).tolist()
        shown = [(i, influence.contributions(model, x, material.found, i)) for i in chosen]
    path = folder / "report.html" if path is None else path
    own = ["vsc", "report", str(folder), *(["--split", split] if split != "test" else [])]
    own += ["--out", str(path)] if path != folder / "report.html" else []
    page = report.RunPage(
        label=label,
        title=f"{label} on {data.name}",
        folder=folder.resolve().name,
        data=data.name,
        split={"test": "test", "valid": "validation"}[split],
        likelihood=model.likelihood.label,
        scores=scores,
        spikes=model.spiked,
        latent_dim=model.latent_dim,
        material=material,
        shown=shown,
        settings=as_plain(asdict(config)),
        history=history,
        seconds=history[-1]["seconds"] if history else None,
        parameters=sum(p.numel() for p in model.parameters()),
        environment=_environment(folder),
        commands=[training_command(config, folder), shlex.join(own)],
        version=version("variational-sparse-coding"),
    )
    return report.write_run(page, path)


def check(model: Autoencoder, data: Dataset, split: str) -> None:
    """
    Refuse a split that is not held out, and data that are not laid out as those that the model was trained on.

    Parameters
    ----------
    model : Autoencoder
        The model.
    data : Dataset
        The data.
    split : str
        Which part is asked for.

    Raises
    ------
    UsageError
        With what does not fit.
    """
    if split not in ("test", "valid"):
        raise UsageError(f"the report is on held-out examples: split must be test or valid, not {split!r}")
    evaluation.pick(data, split)
    if tuple(data.shape) != tuple(model.shape):
        raise UsageError(
            f"the examples of {data.name} have shape {tuple(data.shape)}, and those of the run had {tuple(model.shape)}"
        )
    if model.columns and tuple(data.features) != model.columns:
        raise UsageError(f"the columns of {data.name} are not those of the run, {', '.join(model.columns)}")


def collect(model: Autoencoder, data: Dataset, split: str, x: torch.Tensor) -> report.Material:
    """
    Gather the arrays behind the cards.

    Parameters
    ----------
    model : Autoencoder
        In eval mode, on the CPU.
    data : Dataset
        The data.
    split : str
        Which part.
    x : torch.Tensor, shape (N, M)
        Its examples as model inputs.

    Returns
    -------
    Material
        All that the page shows of the latents.
    """
    part = evaluation.pick(data, split)
    found = features.survey(model, x, model.encode(part.x))
    y = None if part.y is None else part.y.numpy()
    classes = 0 if y is None else max(len(data.classes), int(y.max()) + 1)
    return report.Material(
        found=found,
        ends=features.extremes(found),
        pairs=features.together(found),
        moved=influence.influence(model, x, found),
        swept=influence.strips(model, part.x, found),
        profile=None if y is None else features.by_class(found, y, classes),
        x=model.scaler(part.x).numpy(),
        y=y,
        shape=model.shape,
        classes=data.classes,
        features=data.features,
        scale=model.scaler.kind,
        shift=model.scaler.shift.numpy(),
        factor=model.scaler.factor.numpy(),
    )


def training_command(config: Config, folder: Path) -> str:
    """Return the command that trains a run of these settings again: those that are not the defaults, and the folder."""
    words = ["vsc", "train"]
    for group in fields(config):
        part, default = getattr(config, group.name), getattr(Config(), group.name)
        for one in fields(part):
            value = getattr(part, one.name)
            if value != getattr(default, one.name):
                words += [f"--{group.name}.{one.name}", _word(value)]
    return shlex.join([*words, "--out", str(folder)])


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)


def _environment(folder: Path) -> dict[str, str]:
    """Read what the run was trained with; nothing, if that cannot be read."""
    try:
        found = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}
