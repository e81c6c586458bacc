"""The training loop: batches in, a trained model and its run folder out; it can be stopped and resumed at any step."""

import json
import math
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from vsc import runs
from vsc.bounds import Bound
from vsc.config import Config, TrainConfig
from vsc.data.batches import Batches, mixed
from vsc.data.split import Dataset
from vsc.errors import RunError, UsageError
from vsc.files import whole
from vsc.models import AE, Autoencoder

SMALL_MODEL = 300_000
"""Parameters below which one CPU thread is used."""


class Interrupted(Exception):  # noqa: N818 (not an error: the run was asked to stop)
    """
    SIGINT or SIGTERM arrived.

    Parameters
    ----------
    reached : str
        How far the run came.
    command : str or None
        What to type to go on; None where nothing was saved.
    signum : int
        The signal; `code` is the shell's exit code for it.
    """

    def __init__(self, reached: str, command: str | None, signum: int):
        super().__init__(f"{reached}; " + (f"go on with: {command}" if command else "nothing was saved"))
        self.reached, self.signum, self.code = reached, signum, 128 + signum


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
        Go on from the folder's last checkpoint: the result equals that of an uninterrupted run. A finished run is
        left as it is, and its model returned.
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
        If the loss or a weight stops being finite, or the checkpoint is damaged.
    Interrupted
        If SIGINT or SIGTERM arrives; the step is finished and the state saved first.
    """
    config = runs.resolve(config, data)
    settings = config.train
    assert settings.steps is not None  # resolved
    assert settings.valid_every is not None
    if resume and overwrite:
        raise UsageError("resume goes on with a run and overwrite replaces it; choose one of them")
    if settings.patience and not len(data.valid):
        raise UsageError("train.patience needs a validation set; raise data.valid_fraction above 0")
    if folder is not None and resume:
        _check_same(runs.read_config(folder), config, folder)
        if runs.is_finished(folder):
            return runs.load(folder)
    fabric = _launch(settings)
    lead = fabric.is_global_zero
    torch.manual_seed(settings.seed)
    module = runs.new_model(config, data)
    model, optimizer = fabric.setup(
        module, torch.optim.Adam(module.parameters(), lr=settings.lr, fused=fabric.device.type in ("cpu", "cuda"))
    )
    torch.manual_seed(mixed(1, settings.seed, fabric.global_rank))  # noise differs between processes
    batches = Batches(
        data.train.x.to(fabric.device),
        module.scaler,
        settings.batch_size,
        settings.seed,
        config.data.binarise,
        fabric.global_rank,
        fabric.world_size,
    )
    done = Progress(window=torch.zeros(3, device=fabric.device))
    if folder is not None and resume:
        done = _restore(folder, fabric, module, optimizer)
    elif folder is not None:
        _by_lead(fabric, lambda: runs.create(folder, config, overwrite))

    log = _Log(folder if lead else None, done.step)
    bar = tqdm(total=settings.steps, initial=done.step, disable=not (progress and lead), unit="step")
    start = time.perf_counter() - done.seconds
    watch = fabric.device.type == "cpu"  # elsewhere a look at every loss would wait for the device
    model.train()
    with _signals() as received, cpu_threads(module), bar:
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
                raise RunError(_not_finite(_bad_terms(bound), done.step, folder))
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()

            done = done.seen(bound)
            if at_log:
                row = _row(module, done.window / done.in_window, module.codes(x).gamma.detach())
                log.write(done, "train", row)
                bar.set_postfix(elbo=f"{row.get('elbo') or row['log_px']:.1f}", l0=f"{row['l0']:.1f}", used=row["used"])
                bar.update(done.step - bar.n)
                done = done._replace(window=torch.zeros_like(done.window), in_window=0)
            stop = _agreed(fabric, received) if at_log or fabric.world_size == 1 else 0
            at_valid = len(data.valid) and (last or done.step % settings.valid_every == 0)
            at_save = last or stop or done.step % settings.checkpoint_every == 0
            if (at_valid or at_save) and not all(bool(torch.isfinite(w).all()) for w in module.parameters()):
                raise RunError(_not_finite("the weights", done.step, folder))
            if at_valid:
                row = validate(module, data.valid.x, config)
                log.write(done, "valid", row)
                done = done.judged(row, module if settings.patience else None)
            if folder is not None and at_save:
                _checkpoint(folder, fabric, module, optimizer, done)
            if stop:
                command = f"vsc train --out {shlex.quote(str(folder))} --resume" if folder else None
                raise Interrupted(f"stopped at step {done.step} of {settings.steps}", command, stop)
    if settings.patience and done.best_weights:
        module.load_state_dict(done.best_weights)
    module = module.to("cpu", torch.float32).eval()  # whatever precision it was trained in
    if folder is not None and lead:
        runs.save_model(folder, module, config, data.classes)
    return module


class Progress(NamedTuple):
    """
    How far a run has come, as a checkpoint keeps it.

    Attributes
    ----------
    window : torch.Tensor, shape (3,)
        Sum of the bound's mean terms over the `in_window` steps since the last row of metrics.jsonl.
    step : int
        Steps taken.
    seconds : float
        Time they took.
    in_window : int
        See `window`.
    best, waited, best_weights
        For early stopping: the best validation ELBO, the validations since then, and the weights that had it.
    """

    window: Tensor
    step: int = 0
    seconds: float = 0.0
    in_window: int = 0
    best: float = -math.inf
    waited: int = 0
    best_weights: dict[str, Tensor] | None = None

    def seen(self, bound: Bound) -> "Progress":
        """Return the progress with a training batch's bound added to the window."""
        window = self.window + torch.stack(bound).detach().mean(1)
        return self._replace(window=window, in_window=self.in_window + 1)

    def judged(self, row: dict[str, Any], module: Autoencoder | None) -> "Progress":
        """Return the progress after a validation; with a module, the best weights are kept."""
        score = row["log_px"] - row.get("kl_slab", 0.0) - row.get("kl_spike", 0.0)
        if not score > self.best:  # NaN is no better either
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


def _check_same(saved: Config, config: Config, folder: Path) -> None:
    saved = replace(saved, data=replace(saved.data, root=config.data.root))  # data may have moved
    if saved != config:
        raise UsageError(f"{folder} was made with {_difference(saved, config)}; resume it without that")


def _restore(folder: Path, fabric, module: Autoencoder, optimizer) -> Progress:
    """Take up the last checkpoint of a run."""
    path = folder / "checkpoints" / "last.pt"
    state = runs.load_checkpoint(path)
    try:
        if len(state["rng"]) != fabric.world_size:
            raise UsageError(f"the run had {len(state['rng'])} processes; resume it with as many")
        if ("cuda_rng" in state) != (fabric.device.type == "cuda"):
            raise UsageError(f"the run was not made on {fabric.device.type}; an exact resume needs the same device")
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"][fabric.global_rank])
        if fabric.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"][fabric.global_rank], fabric.device)
        done = Progress(**state["progress"])
        return done._replace(window=done.window.to(fabric.device))
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise RunError(f"the checkpoint {path} does not fit the run: {str(error).splitlines()[0]}") from error


def _difference(a: Config, b: Config) -> str:
    """Name the first setting in which two configs differ."""
    for part in fields(a):
        x, y = getattr(a, part.name), getattr(b, part.name)
        for setting in fields(x):
            if getattr(x, setting.name) != getattr(y, setting.name):
                return f"{part.name}.{setting.name} {getattr(x, setting.name)}, not {getattr(y, setting.name)}"
    return "other settings"


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
    _by_lead(fabric, lambda: runs.save_checkpoint(folder / "checkpoints" / "last.pt", state))


def _by_lead(fabric, act: Callable[[], None]) -> None:
    """Let the first process act; if it fails, all fail with its error, so that none waits for another."""
    error = None
    if fabric.is_global_zero:
        try:
            act()
        except Exception as failure:
            error = failure
    error = fabric.broadcast(error)
    if error is not None:
        raise error


def _gather(fabric, mine: Tensor) -> Tensor:
    """Stack every process's tensor, shape (processes, ...), on the CPU."""
    if fabric.world_size == 1:
        return mine[None].cpu()
    mine = mine.to(fabric.device)
    everyone = [torch.empty_like(mine) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(everyone, mine)
    return torch.stack(everyone).cpu()


@contextmanager
def cpu_threads(module: Autoencoder) -> Iterator[None]:
    """
    Use one CPU thread for a small model inside the block.

    Threads that share small matrices gain nothing on an idle machine, and wait for each other on a busy one: a run that
    takes 4 seconds with one thread can take a minute with two.

    Parameters
    ----------
    module : Autoencoder
        The model.
    """
    before = torch.get_num_threads()
    if sum(p.numel() for p in module.parameters()) < SMALL_MODEL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    return int(_gather(fabric, torch.tensor(received[0] if received else 0)).max())


def _bad_terms(bound: Bound) -> str:
    bad = [name for name, term in zip(bound._fields, bound, strict=True) if not torch.isfinite(term).all()]
    return ", ".join(bad) or "the mean"


def _not_finite(where: str, step: int, folder: Path | None) -> str:
    message = f"the loss stopped being finite at step {step} (in {where}); lower train.lr"
    last = None if folder is None else folder / "checkpoints" / "last.pt"
    if last is None or not last.is_file():
        return message + "; no checkpoint had been written yet"
    return message + f"; the last good checkpoint is {last}"
