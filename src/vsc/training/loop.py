"""The training loop: batches in, a trained model and its run folder out; it can be stopped and resumed at any step."""

import math
import shlex
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vsc.arrays import is_frame
from vsc.data.arrays import from_arrays
from vsc.data.batches import batches_of, mixed
from vsc.data.split import Dataset
from vsc.errors import Caution, Interrupted, RunError, UsageError
from vsc.files import claimed
from vsc.model import Autoencoder
from vsc.model.bounds import TERMS, Bound
from vsc.settings import build
from vsc.settings.config import Config, DataConfig
from vsc.settings.resolve import resolve
from vsc.torchstate import Noise, cpu_threads, modes
from vsc.training import checkpoint, diagnosis, pressure, runs
from vsc.training.checkpoint import Log, Progress, Session
from vsc.training.processes import agreed, by_lead, gather, launch, signals
from vsc.training.validation import row_of, validate

Watch = Callable[[dict[str, Any]], None]
"""What is done with each validation's row of metrics.jsonl."""


def warn(said: str) -> None:
    """Warn of data that will go wrong in training."""
    warnings.warn(said, Caution, stacklevel=4)  # where `train` was called


def train(
    data: Dataset | Any,
    config: Config | None = None,
    folder: str | Path | None = None,
    *,
    model: Autoencoder | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    watch: Watch | None = None,
    tell: Callable[[str], None] = warn,
) -> Autoencoder:
    """
    Train a model.

    torch's random state, threads, modes and defaults are the caller's again afterwards, and several threads of a
    process may train at once: each run is what it would have been alone.

    Parameters
    ----------
    data : Dataset, array or data frame
        The data; training uses `train` and `valid` only. An array (N, ...) or a data frame becomes a data set as
        `config.data` says, for the `label`, what to `drop` and so on (`vsc.from_arrays`).
    config : Config, optional
        The settings, by default all as they are; `auto` values are resolved here.
    folder : str or Path, optional
        The run folder to write; without it nothing is written.
    model : Autoencoder, optional
        A model of your own to train, in place, instead of the one that `config.model` describes.
    resume : bool
        Go on from the folder's last checkpoint: the result equals that of an uninterrupted run. A finished run is
        left as it is, and its model returned, unless `train.steps` were raised.
    overwrite : bool
        Replace a run that is in the folder.
    progress : bool
        Whether to show a progress bar.
    watch : callable, optional
        Is given each validation's row with its step, in every process; what it raises ends the run there, as a crash
        would: the last checkpoint stays.
    tell : callable
        Is given one line on what of the data will go wrong (`diagnosis.beforehand`), where something will, when all is
        checked and before the first step of a run. By default it is a warning.

    Returns
    -------
    Autoencoder
        The trained model in eval mode, on the CPU.

    Raises
    ------
    UsageError
        If a setting is wrong, the folder is taken, or a resumed run has other settings or other data.
    Busy
        If another process or thread trains in the folder.
    RunError
        If the loss or a weight stops being finite, or the checkpoint is damaged.
    Interrupted
        If SIGINT or SIGTERM arrives; the step is finished and the state saved first.

    Warns
    -----
    vsc.errors.Caution
        Of data that will go wrong.
    """
    data = _check(data, config, folder, model)
    if resume and overwrite:
        raise UsageError("resume goes on with a run and overwrite replaces it; choose one of them")
    folder = None if folder is None else Path(folder)
    with modes(gradients=True), ExitStack() as stack:
        config = Config() if config is None else config
        if folder is not None and resume and model is None:
            checkpoint.check_kind(folder, config)
        config = resolve(config, data, model)
        if config.train.patience and not len(data.valid):
            raise UsageError("train.patience needs a validation set; raise data.valid_fraction above 0")
        if folder is not None and resume:
            checkpoint.check_same(folder, config, data)
            if checkpoint.is_over(folder, config):
                return runs.load(folder, model)
        fabric = launch(config.train)
        by_lead(fabric, lambda: stack.enter_context(claimed(folder)))
        received = stack.enter_context(signals())
        if folder is not None:
            by_lead(fabric, partial(runs.prepare, folder, resume or overwrite))
        session, batch_of = _set_up(fabric, config, data, model, folder)
        done = _begun(session, config, data, resume, tell)
        return _train(session, batch_of, config, data, done, progress, watch, received)


def _check(data: Any, config: Any, folder: Any, model: Any) -> Dataset:
    """Refuse what is of another kind than `train` takes, with what to type; return the data."""
    if isinstance(data, Config):
        raise UsageError("the data come first: vsc.train(data, config)")
    if not isinstance(data, Dataset | np.ndarray | Tensor) and not is_frame(data):
        raise UsageError("train takes a data set, an array or a data frame: vsc.load_data(name) of what has a name")
    if not (config is None or isinstance(config, Config)):
        raise UsageError(
            f"the settings are a vsc.Config, not a {type(config).__name__}: "
            "vsc.train(data, vsc.Config(train=vsc.TrainConfig(steps=500)))"
        )
    if not (folder is None or isinstance(folder, str | Path)):
        raise UsageError(f"folder is the path of a run folder, such as 'runs/mine', not {folder!r:.80}")
    if not (model is None or isinstance(model, Autoencoder)):
        raise UsageError(
            "model is an object of your own, such as vsc.VSC(encoder, decoder, ...); one with a name is "
            "vsc.train(data, vsc.preset('vsc-linear'))"
        )
    if isinstance(data, Dataset):
        return data
    how = config.data if config else DataConfig()
    named = {"drop": how.drop or (), "columns": how.columns or {}}
    return from_arrays(data, how.label, "array", how.valid_fraction, how.seed, **named)


def _begun(session: Session, config: Config, data: Dataset, resume: bool, tell: Callable[[str], None]) -> Progress:
    """Return how far a run has come, taking up its last checkpoint to `resume`; tell what will go wrong."""
    fabric, folder = session.fabric, session.folder
    done = Progress(window=torch.zeros(len(TERMS), dtype=torch.float32, device=fabric.device))
    if folder is not None and resume:
        done = checkpoint.restore(session)
        by_lead(fabric, lambda: runs.describe(folder, config))
    if fabric.is_global_zero and not done.step and (said := diagnosis.beforehand(data, session.module.latent_dim)):
        tell(said)
    if fabric.is_global_zero and config.train.compile and fabric.device.type != "cuda":
        tell(f"train.compile does nothing on {fabric.device.type}: it is for a GPU")
    return done


def _train(
    session: Session,
    batch_of: Callable[[int], Tensor],
    config: Config,
    data: Dataset,
    done: Progress,
    progress: bool,
    watch: Watch | None,
    received: list[int],
) -> Autoencoder:
    """Train from where the run is `done`, in a folder that is ours."""
    fabric, settings, module = session.fabric, session.settings, session.module
    noise, folder = session.noise, session.folder
    assert settings.steps is not None  # resolved
    assert settings.valid_every is not None
    lead, world, device = fabric.is_global_zero, fabric.world_size, fabric.device
    log = Log(folder if lead else None, done.step)
    bar = tqdm(total=settings.steps, initial=done.step, disable=not (progress and lead), unit="step")
    start = time.perf_counter() - done.seconds
    module.train()
    with cpu_threads(module), bar:
        while done.step < settings.steps and not (settings.patience and done.waited >= settings.patience):
            last = done.step + 1 == settings.steps
            at_log = last or (done.step + 1) % settings.log_every == 0
            look = at_log or device.type == "cpu"  # elsewhere a look at every loss would wait for the device
            with noise.turn(), _told_at(done.step + 1, folder):
                x = batch_of(done.step)
                bound, done = step(session, x, done, look)
            if folder is not None and done.step == 0:  # a setting that the model cannot take has left nothing behind
                by_lead(fabric, lambda: runs.create(folder, config, data, overwrite=True))
            done = done.seen(bound)._replace(step=done.step + 1, seconds=time.perf_counter() - start)

            if at_log:
                with noise.turn(), torch.no_grad():
                    gamma = module.codes(x).gamma
                    means = gather(fabric, done.window / done.in_window).mean(0)
                    rates = gather(fabric, (gamma > 0.5).float().mean(0)).mean(0)
                    row = row_of(module, means, rates, gather(fabric, gamma.sum(1).mean()).mean().item())
                log.write(done, "train", row)
                bar.set_postfix(elbo=f"{row.get('elbo') or row['log_px']:.1f}", l0=f"{row['l0']:.1f}", used=row["used"])
                bar.update(done.step - bar.n)
                done = done._replace(window=torch.zeros_like(done.window), in_window=0)
            stop = agreed(fabric, received) if at_log or world == 1 else 0
            at_valid = len(data.valid) and (last or done.step % settings.valid_every == 0)
            at_save = last or stop or done.step % settings.checkpoint_every == 0
            if (at_valid or at_save) and not all(bool(torch.isfinite(w).all()) for w in module.parameters()):
                raise RunError(_not_finite("the weights", done.step, folder))
            if at_valid:
                with _told_at(done.step, folder, "the validation part"):
                    row = validate(module, data.valid.x, config)
                log.write(done, "valid", row)
                done = done.judged(row, module if settings.patience else None)
                if watch and not stop:
                    watch({"step": done.step, **row})
            if at_save:
                checkpoint.save_progress(session, done)
            if stop:
                command = f"vsc train --out {shlex.quote(str(folder))} --resume" if folder else None
                raise Interrupted(f"stopped at step {done.step} of {settings.steps}", command, stop)
    if settings.patience and done.best_weights:
        module.load_state_dict(done.best_weights)
    module = module.to("cpu", torch.float32).eval()  # whatever precision it was trained in
    if folder is not None:
        by_lead(fabric, lambda: runs.save_model(folder, module, config))
    return module


def _set_up(
    fabric, config: Config, data: Dataset, model: Autoencoder | None, folder: Path | None = None
) -> tuple[Session, Callable[[int], Tensor]]:
    """Make the model, or take the user's, and its optimiser; return them, and what gives the inputs of a step."""
    settings, device = config.train, fabric.device
    with Noise(settings.seed).turn():
        module = build.new_model(config, data, model)
        adam = torch.optim.Adam(paces(module), lr=1e-3, fused=device.type in ("cpu", "cuda"))
        wrapped, optimizer = fabric.setup(module, adam)
        if settings.compile and device.type == "cuda":  # with the noise that it would have otherwise
            wrapped = torch.compile(wrapped, options={"fallback_random": True})
        processes = fabric.global_rank, fabric.world_size
        how = settings.batch_size, settings.seed, config.data.binarise
        batch_of = batches_of(data.train, module.scaler, *how, *processes, device)
    noise = Noise(mixed(1, settings.seed, fabric.global_rank), device)  # it differs between processes
    return Session(fabric, settings, module, wrapped, optimizer, noise, folder), batch_of


def step(session: Session, x: Tensor, done: Progress, look: bool) -> tuple[Bound, Progress]:
    """
    Take one step of the optimiser; return the batch's bound, and the progress with what the controller has come to ask.

    `x` (B, M) are model inputs, and `done` says how far the training of the `session` has come. If it is to `look`, a
    loss that is not finite is a RunError, which names the checkpoint in the run's folder.
    """
    fabric, settings, optimizer, folder = session.fabric, session.settings, session.optimizer, session.folder
    now = settings.knobs(done.step)
    bound: Bound = session.wrapped(x, lam=now.lam, relaxation=now.relaxation)
    prices = None
    if bound.gamma.requires_grad and (settings.target_l0 or (settings.cap or 1.0) < 1):
        rates = bound.gamma.detach().float().mean(0)
        if fabric.world_size > 1:  # by way of the CPU, for which an accelerator would have to wait at every step
            rates = gather(fabric, rates).mean(0).to(rates.device)
        at = done.pressure or pressure.begin(rates)
        prices, at = pressure.prices(at, rates, now, settings, done.step)
        done = done._replace(pressure=at)
    loss = -bound.weighted(now.beta, prices, now.penalty, now.total_correlation).mean()
    if look and not math.isfinite(loss.item()):
        raise RunError(_not_finite(_bad_terms(bound), done.step + 1, folder))
    for group in optimizer.param_groups:
        group["lr"] = now.lr * group["pace"]
    optimizer.zero_grad()
    fabric.backward(loss)
    if settings.clip:
        with _told_at(done.step + 1, folder, "the gradient"):
            fabric.clip_gradients(session.wrapped, optimizer, max_norm=settings.clip)
    optimizer.step()
    return bound, done


def paces(module: Autoencoder) -> list[dict[str, Any]]:
    """Return Adam's groups of weights, each with its `pace`: its learning rate in multiples of the model's."""
    pace = getattr(getattr(module, "prior", None), "pace", 1.0)
    weights = {name: w for name, w in module.named_parameters() if w.requires_grad}
    own = {name: w for name, w in weights.items() if pace != 1 and name.startswith("prior.")}
    rest = [w for name, w in weights.items() if name not in own]
    groups = [(rest, 1.0), (list(own.values()), pace)]
    return [{"params": part, "pace": pace} for part, pace in groups if part]


@contextmanager
def _told_at(step: int, folder: Path | None, where: str = "the gates") -> Iterator[None]:
    """Let torch's complaints about probabilities that are no numbers, and gradients, name the step and what to do."""
    try:
        yield
    except RuntimeError as error:
        if "p_in" not in str(error) and "non-finite" not in str(error):
            raise
        raise RunError(_not_finite(where, step, folder)) from error


def _bad_terms(bound: Bound) -> str:
    bad = [name for name, term in zip(bound._fields, bound, strict=True) if not torch.isfinite(term).all()]
    return ", ".join(bad) or "the mean"


def _not_finite(where: str, step: int, folder: Path | None) -> str:
    message = f"the loss stopped being finite at step {step} (in {where}); lower train.lr"
    if where == "the validation part":
        message += ", or look there for values of an extreme size"
    last = None if folder is None else folder / "checkpoints" / "last.pt"
    if last is None or not last.is_file():
        return message + "; no checkpoint had been written yet"
    return message + f"; the last good checkpoint is {last}"
