"""How far a training run has come: its state, its checkpoint and its log."""

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vsc.data.split import Dataset
from vsc.errors import RunError, UsageError, first_line, short
from vsc.files import as_json, told_as, whole
from vsc.model import Autoencoder
from vsc.model.bounds import TERMS, Bound
from vsc.settings.config import Config, TrainConfig
from vsc.torchstate import Noise
from vsc.training import runs
from vsc.training.pressure import Pressure, begin
from vsc.training.processes import by_lead, gather


class Session(NamedTuple):
    """A model in training, as lightning's fabric has set it up."""

    fabric: Any
    settings: TrainConfig  # resolved
    module: Autoencoder
    wrapped: Any  # the same, as the processes share it
    optimizer: Any
    noise: Noise  # this process's
    folder: Path | None = None  # the run's


class Progress(NamedTuple):
    """How far a run has come, as a checkpoint keeps it."""

    window: Tensor  # (5,) sum of the means of the Bound's `TERMS` since the last row of metrics.jsonl
    step: int = 0  # steps taken
    seconds: float = 0.0  # that the steps took
    in_window: int = 0  # steps since that row
    pressure: Pressure | None = None  # what train.cap and train.target_l0 have come to ask
    best: float = -math.inf  # validation ELBO, for early stopping
    waited: int = 0  # validations since then
    best_weights: dict[str, Tensor] | None = None  # those that had it

    def seen(self, bound: Bound) -> "Progress":
        """Return the progress with a training batch's bound added to the window."""
        window = self.window + bound.terms.detach().mean(0)
        return self._replace(window=window, in_window=self.in_window + 1)

    def judged(self, row: dict[str, Any], module: Autoencoder | None) -> "Progress":
        """Return the progress after a validation; with a module, the best weights are kept."""
        score = row.get("elbo", row["log_px"])
        if not score > self.best:  # NaN is no better either
            return self._replace(waited=self.waited + 1)
        weights = {k: v.detach().clone() for k, v in module.state_dict().items()} if module else None
        return self._replace(best=score, waited=0, best_weights=weights)


class Log:
    """
    metrics.jsonl: a row a line, `null` for what is no number.

    Without a `folder` nothing is written. Rows after the `step` that a run resumes from are dropped.
    """

    def __init__(self, folder: Path | None, step: int):
        self.path = None if folder is None else folder / "metrics.jsonl"
        if folder is not None and self.path is not None and step:
            kept = [row for row in runs.read_history(folder) if row["step"] <= step]
            with whole(self.path) as temporary:
                temporary.write_text("".join(as_json(row) + "\n" for row in kept), encoding="utf-8")

    def write(self, done: Progress, split: str, row: dict[str, Any]) -> None:
        """Append what was measured on a split, train or valid, with the step and the seconds so far."""
        if self.path is not None:
            line = {"step": done.step, "split": split} | row | {"seconds": round(done.seconds, 3)}
            with told_as(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(as_json(line) + "\n")


def check_kind(folder: Path, config: Config) -> None:
    """Refuse to resume a run as another model, whose other settings would make no sense."""
    if (name := runs.read_config(folder).model.name) != config.model.name:
        raise UsageError(f"{folder} was made with model.name {name}, not {config.model.name}; resume it without that")


def check_same(folder: Path, config: Config, data: Dataset) -> None:
    """
    Refuse to resume a run with other data or settings than those that leave the result what it would have been.

    Where the data lie, the device's name, how often is logged and saved, and without `train.patience` how often is
    validated, are free. `train.steps` may be raised where no schedule says anything else at the steps already taken.
    The message says what differs.
    """
    saved = runs.read_config(folder)
    patient = bool(config.train.patience)
    free = ("log_every", "checkpoint_every", "device", *(() if patient else ("valid_every",)))
    same = replace(
        saved,
        data=replace(saved.data, root=config.data.root),  # data may have moved
        train=replace(saved.train, **{name: getattr(config.train, name) for name in free}),
    )
    if same.data == config.data and (changed := runs.changed_data(folder, data)):
        raise UsageError(f"{folder} cannot be resumed: {changed}; start anew with --overwrite, or choose another --out")
    if replace(same, train=replace(same.train, steps=config.train.steps)) != config:
        raise UsageError(f"{folder} was made with {_difference(same, config)}; resume it without that")
    old, new = saved.train.steps, config.train.steps
    assert old
    assert new
    if old == new:
        return
    taken = min(old, runs.load_checkpoint(folder / "checkpoints" / "last.pt")["progress"]["step"])
    why = _other_past(saved.train, config.train, taken) if new > old else "they may only be raised"
    if patient and old % (saved.train.valid_every or 1):
        why = why or "a validation at the last step would not have been there"
    if why:
        raise UsageError(f"{folder} was made with train.steps {old}, not {new}: {why}; resume it without that")


def _other_past(saved: TrainConfig, config: TrainConfig, taken: int) -> str:
    """Say which schedule would have been another at the steps already taken."""
    if saved.target_l0 or (saved.cap or 1) < 1:
        return "the price that train.target_l0 and train.cap ask moves by shares of the steps"
    for step in range(taken):
        was, would = saved.knobs(step), config.knobs(step)
        if was != would:
            name = next(name for name, a, b in zip(was._fields, was, would, strict=True) if a != b)
            return f"the schedule of {name} is made of shares of the steps and would have been another at step {step}"
    return ""


def is_over(folder: Path, config: Config) -> bool:
    """Whether a run, whose settings were checked, was trained to the end that is asked for."""
    return runs.is_finished(folder) and runs.read_config(folder).train.steps == config.train.steps


def restore(session: Session) -> Progress:
    """
    Take up the last checkpoint of a run: the `session`'s untrained module, its optimiser and noise are set in place.

    UsageError if there is none, or it was made by another number of processes or on another kind of device; RunError if
    it is damaged or does not fit.
    """
    fabric, module, optimizer, noise = session.fabric, session.module, session.optimizer, session.noise
    assert session.folder is not None
    path = session.folder / "checkpoints" / "last.pt"
    state = runs.load_checkpoint(path)
    try:
        if len(state["rng"]) != fabric.world_size:
            raise UsageError(f"the run had {len(state['rng'])} processes; resume it with as many")
        kind = state.get("device", "cuda" if "cuda_rng" in state else "cpu")
        if kind != fabric.device.type:
            raise UsageError(f"the run was made on {kind}, not on {fabric.device.type}; an exact resume needs the same")
        module.load_state_dict(state["model"])
        usual = [dict(group) for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizer"])
        _check_optimizer(optimizer, usual)
        theirs = [state["rng"], *(state[name] for name in ("device_rng", "cuda_rng") if name in state)]
        # torch reads the start of a tensor's storage, whichever part the tensor is: hence the copies
        noise.states = [states[fabric.global_rank].clone() for states in theirs]
        torch.Generator().set_state(noise.states[0])  # which refuses what is none
        done = Progress(**state["progress"])
        _check_kinds(done)
        if done.pressure is not None:
            done = done._replace(pressure=_pressure(done.pressure, module.latent_dim, fabric.device))
        return done._replace(window=done.window.to(fabric.device))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        if isinstance(error, UsageError):
            raise
        raise RunError(f"the checkpoint {path} does not fit the run: {first_line(error)}") from error


def _check_optimizer(optimizer, usual: list[dict[str, Any]]) -> None:
    """Refuse a state that the optimiser would stumble over at its next step; `usual` are its groups as made."""
    for group, own in zip(optimizer.param_groups, usual, strict=True):
        for name in own.keys() - {"params", "lr"}:  # the rate is set anew at every step
            if group.get(name) != own[name]:
                raise ValueError(f"optimizer: {name} is {short(group.get(name))}, not {short(own[name])}")
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if not isinstance(value, Tensor) or value.shape not in ((), parameter.shape):
                raise TypeError(f"optimizer: {name} does not fit its weights")


def _check_kinds(done: Progress) -> None:
    """Refuse a progress that was not written by us."""
    kinds = {"step": int, "seconds": float, "in_window": int, "best": float, "waited": int}
    for name, kind in kinds.items():
        value = getattr(done, name)
        if not isinstance(value, int | kind) or isinstance(value, bool) or (not value >= 0 and name != "best"):
            raise TypeError(f"progress.{name} is {short(value)}")
    if not isinstance(done.window, Tensor) or done.window.shape != (len(TERMS),):
        raise TypeError("progress.window is not a sum of bounds")


def _pressure(kept: Any, latent_dim: int, device) -> Pressure:
    """Return the controller of a checkpoint; refuse what is none of so many latents."""
    usual = begin(torch.zeros(latent_dim))
    parts: list[Any] = [kept.get(name) for name in Pressure._fields] if isinstance(kept, dict) else []
    shapes = [part.shape if isinstance(part, Tensor) and part.isfinite().all() else None for part in parts]
    if shapes != [part.shape for part in usual]:
        raise TypeError("progress.pressure is no controller of the model's latents")
    return Pressure(*(part.to(device) for part in parts))


def _difference(a: Config, b: Config) -> str:
    """Name the first setting in which two configs differ."""
    for part in fields(a):
        x, y = getattr(a, part.name), getattr(b, part.name)
        for setting in fields(x):
            if getattr(x, setting.name) != getattr(y, setting.name):
                return f"{part.name}.{setting.name} {getattr(x, setting.name)}, not {getattr(y, setting.name)}"
    return "other settings"


def save_progress(session: Session, done: Progress) -> None:
    """Save all that a `session` which is `done` so far needs to go on exactly, if it has a folder; the lead writes."""
    fabric, folder, noise = session.fabric, session.folder, session.noise
    if folder is None:
        return
    state = {
        "format": runs.FORMAT,
        "device": fabric.device.type,
        "model": session.module.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "progress": done._asdict() | {"pressure": done.pressure and done.pressure._asdict()},
        "rng": gather(fabric, noise.states[0]),
    }
    if len(noise.states) > 1:
        state["device_rng"] = gather(fabric, noise.states[1])
    by_lead(fabric, lambda: runs.save_checkpoint(folder / "checkpoints" / "last.pt", state))
