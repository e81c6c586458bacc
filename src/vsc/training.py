"""The training loop: batches in, a trained model and its run folder out; it can be stopped and resumed at any step."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from vsc import runs
from vsc.bounds import Bound
from vsc.config import Config, TrainConfig
from vsc.data.batches import Batches
from vsc.data.split import Dataset
from vsc.errors import RunError, UsageError
from vsc.files import whole
from vsc.models import AE, Autoencoder


class Interrupted(Exception):  # noqa: N818 (not an error: the run was asked to stop)
    """SIGINT or SIGTERM arrived; the state is saved. `code` is the shell's exit code for that signal."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.code = 128 + signum


def train(
    config: Config,
    data: Dataset,
    folder: Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Autoencoder:
    """
    Train a model.

    Parameters
    ----------
    config : Config
        The settings; `auto` values are resolved here.
    data : Dataset
        The data; training uses `train` and `valid` only.
    folder : Path, optional
        The run folder to write; without it nothing is written.
    resume : bool
        Go on from the folder's last checkpoint: the result equals that of an uninterrupted run.
    overwrite : bool
        Replace a run that is in the folder.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Autoencoder
        The trained model in eval mode, on the CPU.

    Raises
    ------
    UsageError
        If a setting is wrong, the folder is taken, or a resumed run has other settings.
    RunError
        If the loss stops being finite.
    Interrupted
        If SIGINT or SIGTERM arrives; the step is finished and the state saved first.
    """
    config = runs.resolve(config, data)
    settings = config.train
    assert settings.steps is not None  # resolved
    fabric = _launch(settings)
    lead = fabric.is_global_zero
    torch.manual_seed(settings.seed)
    module = runs.new_model(config, data)
    model, optimizer = fabric.setup(
        module, torch.optim.Adam(module.parameters(), lr=settings.lr, fused=fabric.device.type in ("cpu", "cuda"))
    )
    torch.manual_seed((settings.seed << 16) + fabric.global_rank)  # noise differs between processes
    batches = Batches(
        data.train.x.to(fabric.device),
        module.scaler,
        settings.batch_size,
        settings.seed,
        config.data.binarise,
        fabric.global_rank,
        fabric.world_size,
    )
    done = Progress()
    if folder is not None and resume:
        done = _restore(folder, config, fabric, module, optimizer)
    elif folder is not None and lead:
        runs.create(folder, config, overwrite)
    fabric.barrier()

    log = _Log(folder if lead else None, done.step)
    bar = tqdm(total=settings.steps, initial=done.step, disable=not (progress and lead), unit="step")
    start = time.perf_counter() - done.seconds
    window, in_window = torch.zeros(3, device=fabric.device), 0
    watch = fabric.device.type == "cpu"  # elsewhere a look at every loss would wait for the device
    model.train()
    with _signals() as received, bar:
        while done.step < settings.steps and not (settings.patience and done.waited >= settings.patience):
            now = settings.knobs(done.step, config.model.spikes)
            for group in optimizer.param_groups:
                group["lr"] = now.lr
            x = batches(done.step)
            bound: Bound = model(x, lam=now.lam, relaxation=now.relaxation)
            loss = -bound.weighted(now.beta).mean()
            done = done._replace(step=done.step + 1, seconds=time.perf_counter() - start)
            last = done.step == settings.steps
            at_log = last or done.step % settings.log_every == 0
            if (watch or at_log) and not math.isfinite(loss.item()):
                raise RunError(_not_finite(bound, done.step, folder))
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()

            window, in_window = window + torch.stack(bound).detach().mean(1), in_window + 1
            if at_log:
                row = _row(module, window / in_window, module.codes(x).gamma.detach())
                log.write(done, "train", row)
                bar.set_postfix(elbo=f"{row.get('elbo') or row['log_px']:.1f}", l0=f"{row['l0']:.1f}", used=row["used"])
                bar.update(done.step - bar.n)
                window, in_window = torch.zeros_like(window), 0
            if len(data.valid) and (last or done.step % settings.valid_every == 0):
                row = validate(module, data.valid.x, config)
                log.write(done, "valid", row)
                done = done.judged(row, module if settings.patience else None)
            stop = _agreed(fabric, received) if at_log or fabric.world_size == 1 else 0
            if folder is not None and (last or stop or done.step % settings.checkpoint_every == 0):
                _checkpoint(folder, fabric, module, optimizer, done)
            if stop:
                raise Interrupted(_interrupted(done.step, settings.steps, folder), stop)
    if settings.patience and done.best_weights:
        module.load_state_dict(done.best_weights)
    if folder is not None and lead:
        runs.save_model(folder, module, config, data.classes)
    return module.to("cpu").eval()


class Progress(NamedTuple):
    """How far a run has come: steps, seconds, and for early stopping the best validation ELBO and since when."""

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    waited: int = 0
    best_weights: dict[str, Tensor] | None = None

    def judged(self, row: dict[str, Any], module: Autoencoder | None) -> "Progress":
        """Return the progress after a validation; with a module, the best weights are kept."""
        score = row["log_px"] - row.get("kl_slab", 0.0) - row.get("kl_spike", 0.0)
        if score <= self.best:
            return self._replace(waited=self.waited + 1)
        weights = {k: v.detach().clone() for k, v in module.state_dict().items()} if module else None
        return self._replace(best=score, waited=0, best_weights=weights)


@torch.no_grad()
def validate(module: Autoencoder, x: Tensor, config: Config, batch_size: int = 1024) -> dict[str, Any]:
    """
    Measure the hard-spike ELBO on stored examples, with the same noise every time.

    Parameters
    ----------
    module : Autoencoder
        The model; its mode is left as it was.
    x : torch.Tensor, shape (N, M)
        Stored examples.
    config : Config
        For binarisation and the seed.
    batch_size : int
        Examples at a time.

    Returns
    -------
    dict
        A row for metrics.jsonl, without step and split.
    """
    device = next(module.parameters()).device
    was_training = module.training
    module.eval()
    terms, gamma = torch.zeros(3, dtype=torch.float64), []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.train.seed)
        for chunk in x.split(batch_size):
            inputs = module.scaler(chunk.to(device))
            inputs = torch.bernoulli(inputs) if config.data.binarise else inputs
            terms += torch.stack(module(inputs)).double().sum(1).cpu()
            gamma.append(module.codes(inputs).gamma)
    module.train(was_training)
    return _row(module, terms / len(x), torch.cat(gamma))


def _row(module: Autoencoder, terms: Tensor, gamma: Tensor) -> dict[str, Any]:
    """Name the mean terms of a bound, shape (3,), and count latents from gamma (N, J). An AE has no bound."""
    log_px, kl_slab, kl_spike = terms.tolist()
    row: dict[str, Any] = {"log_px": log_px}
    if not isinstance(module, AE):
        row = {"elbo": log_px - kl_slab - kl_spike} | row | {"kl_slab": kl_slab, "kl_spike": kl_spike}
    used = ((gamma > 0.5).float().mean(0) > 0.01).sum()
    return row | {"l0": gamma.sum(1).mean().item(), "used": int(used)}


class _Log:
    """metrics.jsonl: one row a line; rows after the step that a run resumes from are dropped."""

    def __init__(self, folder: Path | None, step: int):
        self.path = None if folder is None else folder / "metrics.jsonl"
        if folder is not None and self.path is not None and step:
            kept = [row for row in runs.read_history(folder) if row["step"] <= step]
            with whole(self.path) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def write(self, done: Progress, split: str, row: dict[str, Any]) -> None:
        if self.path is not None:
            line = {"step": done.step, "split": split} | row | {"seconds": round(done.seconds, 3)}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def _launch(settings: TrainConfig):
    """Start lightning-fabric on the asked devices; under torchrun, on the processes that it started."""
    from lightning_fabric import Fabric

    devices, nodes = settings.devices, settings.nodes
    if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    try:
        fabric = Fabric(
            accelerator=settings.device,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
            precision=settings.precision,  # pyright: ignore[reportArgumentType]
        )
    except Exception as error:  # fabric reports a missing device or an unknown name in several classes
        raise UsageError(f"train.device, devices or precision: {str(error).splitlines()[0]}") from error
    if settings.batch_size % (devices * nodes):
        raise UsageError(
            f"train.batch_size {settings.batch_size} must be a multiple of the {devices * nodes} processes"
        )
    fabric.launch()
    return fabric


def _restore(folder: Path, config: Config, fabric, module: Autoencoder, optimizer) -> Progress:
    """Take up the last checkpoint of a run with the same settings."""
    saved = runs.read_config(folder)
    if saved != config:
        raise UsageError(
            f"{folder} was made with other settings ({_difference(saved, config)}); resume it without them"
        )
    state = runs.load_checkpoint(folder / "checkpoints" / "last.pt")
    module.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if len(state["rng"]) != fabric.world_size:
        raise UsageError(f"the run had {len(state['rng'])} processes; resume it with as many")
    torch.set_rng_state(state["rng"][fabric.global_rank])
    if fabric.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_rng"][fabric.global_rank], fabric.device)
    return Progress(**state["progress"])


def _difference(a: Config, b: Config) -> str:
    """Name the first setting in which two configs differ."""
    for part in fields(a):
        x, y = getattr(a, part.name), getattr(b, part.name)
        for setting in fields(x):
            if getattr(x, setting.name) != getattr(y, setting.name):
                return f"{part.name}.{setting.name} {getattr(x, setting.name)} there, {getattr(y, setting.name)} here"
    return "none"


def _checkpoint(folder: Path, fabric, module: Autoencoder, optimizer, done: Progress) -> None:
    """Save everything that an exact continuation needs."""
    state = {
        "format": runs.FORMAT,
        "model": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": done._asdict(),
        "rng": _gather(fabric, torch.get_rng_state()),
    }
    if fabric.device.type == "cuda":
        state["cuda_rng"] = _gather(fabric, torch.cuda.get_rng_state(fabric.device))
    if fabric.is_global_zero:
        runs.save_checkpoint(folder / "checkpoints" / "last.pt", state)


def _gather(fabric, state: Tensor) -> Tensor:
    """Stack every process's random state (uint8), shape (processes, bytes)."""
    gathered = fabric.all_gather(state.to(fabric.device))
    return gathered.reshape(fabric.world_size, -1).cpu()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of stopping at once; a second SIGINT stops at once after all."""
    received: list[int] = []

    def note(signum, frame):
        if received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signum)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _agreed(fabric, received: list[int]) -> int:
    """Return the signal that any process received, 0 for none, so that all stop at the same step."""
    mine = received[0] if received else 0
    if fabric.world_size == 1:
        return mine
    return int(fabric.all_gather(torch.tensor(mine, device=fabric.device)).max())


def _interrupted(step: int, steps: int, folder: Path | None) -> str:
    saved = "nothing was saved" if folder is None else f"go on with: vsc train --out {folder} --resume"
    return f"stopped at step {step} of {steps}; {saved}"


def _not_finite(bound: Bound, step: int, folder: Path | None) -> str:
    bad = [name for name, term in zip(bound._fields, bound, strict=True) if not torch.isfinite(term).all()]
    message = f"the loss stopped being finite at step {step} (in {', '.join(bad) or 'the loss'}); lower train.lr"
    last = None if folder is None else folder / "checkpoints" / "last.pt"
    if last is None or not last.is_file():
        return message + "; no checkpoint had been written yet"
    return message + f"; the last good checkpoint is {last}"
