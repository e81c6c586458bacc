"""The training loop: batches in, a trained model and its run folder out; it can be stopped and resumed at any step."""

import math
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from vsc.data.batches import batches_of, mixed
from vsc.data.split import Dataset
from vsc.errors import RunError, UsageError
from vsc.files import claimed
from vsc.model import AE, Autoencoder
from vsc.model.bounds import Bound
from vsc.settings import build
from vsc.settings.config import Config, TrainConfig
from vsc.training import runs
from vsc.training.checkpoint import Log, Progress, check_same, restore, save_progress
from vsc.training.processes import agreed, by_lead, cpu_threads, flush_denormals, launch, mean_over, signals

Watch = Callable[[dict[str, Any]], None]
"""What is done with each validation's row of metrics.jsonl."""


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
    data: Dataset,
    config: Config | None = None,
    folder: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    watch: Watch | None = None,
) -> Autoencoder:
    """
    Train a model.

    Parameters
    ----------
    data : Dataset
        The data; training uses `train` and `valid` only.
    config : Config, optional
        The settings, by default all as they are; `auto` values are resolved here.
    folder : str or Path, optional
        The run folder to write; without it nothing is written.
    resume : bool
        Go on from the folder's last checkpoint: the result equals that of an uninterrupted run. A finished run is
        left as it is, and its model returned.
    overwrite : bool
        Replace a run that is in the folder.
    progress : bool
        Whether to show a progress bar.
    watch : callable, optional
        Is given each validation's row with its step, in every process; what it raises ends the run there, as a crash
        would: the last checkpoint stays.

    Returns
    -------
    Autoencoder
        The trained model in eval mode, on the CPU.

    Raises
    ------
    UsageError
        If a setting is wrong, the folder is taken, or a resumed run has other settings.
    Busy
        If another process trains in the folder.
    RunError
        If the loss or a weight stops being finite, or the checkpoint is damaged.
    Interrupted
        If SIGINT or SIGTERM arrives; the step is finished and the state saved first.
    """
    if isinstance(data, Config):
        raise UsageError("the data come first: vsc.train(data, config)")
    if not isinstance(data, Dataset):
        raise UsageError("train takes a data set: vsc.load_data(name), or vsc.from_arrays(x, y) of your own arrays")
    flush_denormals()
    folder = None if folder is None else Path(folder)
    config = build.resolve(Config() if config is None else config, data)
    settings = config.train
    if resume and overwrite:
        raise UsageError("resume goes on with a run and overwrite replaces it; choose one of them")
    if settings.patience and not len(data.valid):
        raise UsageError("train.patience needs a validation set; raise data.valid_fraction above 0")
    if folder is not None and resume:
        check_same(runs.read_config(folder), config, folder)
        if runs.is_finished(folder):
            return runs.load(folder)
    fabric = launch(settings)
    with claimed(folder if fabric.is_global_zero else None):
        return _train(fabric, config, data, folder, resume, overwrite, progress, watch)


def _train(
    fabric,
    config: Config,
    data: Dataset,
    folder: Path | None,
    resume: bool,
    overwrite: bool,
    progress: bool,
    watch: Watch | None,
) -> Autoencoder:
    """Train with settings that were resolved and checked, in a folder that is ours."""
    settings = config.train
    assert settings.steps is not None  # resolved
    assert settings.valid_every is not None
    lead = fabric.is_global_zero
    torch.manual_seed(settings.seed)
    module = build.new_model(config, data)
    fused = fabric.device.type in ("cpu", "cuda")
    model, optimizer = fabric.setup(module, torch.optim.Adam(paces(module, settings), lr=settings.lr, fused=fused))
    torch.manual_seed(mixed(1, settings.seed, fabric.global_rank))  # noise differs between processes
    batches = batches_of(
        data.train,
        module.scaler,
        settings.batch_size,
        settings.seed,
        config.data.binarise,
        fabric.global_rank,
        fabric.world_size,
        fabric.device,
    )
    done = Progress(window=torch.zeros(len(Bound._fields), device=fabric.device))
    if folder is not None and resume:
        done = restore(folder, fabric, module, optimizer)
    elif folder is not None:
        by_lead(fabric, lambda: runs.create(folder, config, overwrite))

    log = Log(folder if lead else None, done.step)
    bar = tqdm(total=settings.steps, initial=done.step, disable=not (progress and lead), unit="step")
    start = time.perf_counter() - done.seconds
    at_each = fabric.device.type == "cpu"  # elsewhere a look at every loss would wait for the device
    model.train()
    with signals() as received, cpu_threads(module), bar:
        while done.step < settings.steps and not (settings.patience and done.waited >= settings.patience):
            now = settings.knobs(done.step, config.model.spikes)
            for group in optimizer.param_groups:
                group["lr"] = now.lr * group["pace"]
            x = batches(done.step)
            bound: Bound = model(x, lam=now.lam, relaxation=now.relaxation)
            asked = now.price
            if settings.target_l0:
                asked, done = done.asked(mean_over(fabric, bound.l0), now, settings, module.latent_dim)
            goal = bound.weighted(now.beta, now.penalty, asked, now.spike_beta, now.total_correlation, now.slab_beta)
            loss = -goal.mean()
            done = done._replace(step=done.step + 1, seconds=time.perf_counter() - start)
            last = done.step == settings.steps
            at_log = last or done.step % settings.log_every == 0
            if (at_each or at_log) and not math.isfinite(loss.item()):
                raise RunError(_not_finite(_bad_terms(bound), done.step, folder))
            optimizer.zero_grad()
            fabric.backward(loss)
            if settings.clip:
                fabric.clip_gradients(model, optimizer, max_norm=settings.clip)
            optimizer.step()

            done = done.seen(bound)
            if at_log:
                row = _row(module, done.window / done.in_window, module.codes(x).gamma.detach())
                log.write(done, "train", row)
                bar.set_postfix(elbo=f"{row.get('elbo') or row['log_px']:.1f}", l0=f"{row['l0']:.1f}", used=row["used"])
                bar.update(done.step - bar.n)
                done = done._replace(window=torch.zeros_like(done.window), in_window=0)
            stop = agreed(fabric, received) if at_log or fabric.world_size == 1 else 0
            at_valid = len(data.valid) and (last or done.step % settings.valid_every == 0)
            at_save = last or stop or done.step % settings.checkpoint_every == 0
            if (at_valid or at_save) and not all(bool(torch.isfinite(w).all()) for w in module.parameters()):
                raise RunError(_not_finite("the weights", done.step, folder))
            if at_valid:
                row = validate(module, data.valid.x, config)
                log.write(done, "valid", row)
                done = done.judged(row, module if settings.patience else None)
                if watch and not stop:
                    watch({"step": done.step, **row})
            if folder is not None and at_save:
                save_progress(folder, fabric, module, optimizer, done)
            if stop:
                command = f"vsc train --out {shlex.quote(str(folder))} --resume" if folder else None
                raise Interrupted(f"stopped at step {done.step} of {settings.steps}", command, stop)
    if settings.patience and done.best_weights:
        module.load_state_dict(done.best_weights)
    module = module.to("cpu", torch.float32).eval()  # whatever precision it was trained in
    if folder is not None and lead:
        runs.save_model(folder, module, config)
    return module


def paces(module: Autoencoder, settings: TrainConfig) -> list[dict[str, Any]]:
    """Return Adam's groups of weights, each with its `pace`: its learning rate in multiples of the model's."""
    apart = settings.prior_lr != 1 and not isinstance(module, AE)
    weights = {name: w for name, w in module.named_parameters() if w.requires_grad}
    own = {name: w for name, w in weights.items() if apart and name.startswith("prior.")}
    rest = [w for name, w in weights.items() if name not in own]
    groups = [(rest, 1.0), (list(own.values()), settings.prior_lr)]
    return [{"params": part, "pace": pace} for part, pace in groups if part]


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
        A row for metrics.jsonl, without step and split: means and counts as in rows of training, `dead` latents, and
        J numbers each, rounded to four digits: `rates`, the share of the examples for which a latent has
        gamma > 1/2, and `kl_latent`, what it adds to kl_slab + kl_spike in nats (where the prior says).
    """
    device = next(module.parameters()).device
    was_training = module.training
    module.eval()
    terms, gamma, kl = torch.zeros(len(Bound._fields), dtype=torch.float64), [], []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.train.seed)
        for chunk in x.split(batch_size):
            inputs = module.scaler(chunk.to(device))
            inputs = torch.bernoulli(inputs) if config.data.binarise else inputs
            terms += torch.stack(module(inputs)).double().sum(1).cpu()
            gamma.append(module.codes(inputs).gamma)
            if not isinstance(module, AE):
                kl.append(module.prior.latent_kl(module.posterior(inputs), inputs, module.posterior))
    module.train(was_training)
    rates = (torch.cat(gamma) > 0.5).double().mean(0)
    row = _row(module, terms / len(x), torch.cat(gamma)) | {"dead": int((rates < 1e-4).sum())}
    row["rates"] = [round(rate, 4) for rate in rates.tolist()]
    if kl and kl[0] is not None:
        row["kl_latent"] = [round(nats, 4) for nats in torch.cat(kl).double().mean(0).tolist()]
    return row


def _row(module: Autoencoder, terms: Tensor, gamma: Tensor) -> dict[str, Any]:
    """Name the means of a bound's fields and count latents from gamma (N, J). An AE has no bound."""
    mean = Bound(*terms)
    row = {"log_px": mean.log_px.item()}
    if not isinstance(module, AE):
        parts = ("kl_slab", "kl_spike", "kl_selection")
        row = {"elbo": mean.elbo.item()} | row | {name: getattr(mean, name).item() for name in parts}
    rate = (gamma > 0.5).float().mean(0)
    counts = {"used": int((rate > 0.01).sum()), "always_on": int((rate > 0.99).sum())}
    return row | {"l0": gamma.sum(1).mean().item(), "active": rate.sum().item()} | counts


def _bad_terms(bound: Bound) -> str:
    bad = [name for name, term in zip(bound._fields, bound, strict=True) if not torch.isfinite(term).all()]
    return ", ".join(bad) or "the mean"


def _not_finite(where: str, step: int, folder: Path | None) -> str:
    message = f"the loss stopped being finite at step {step} (in {where}); lower train.lr"
    last = None if folder is None else folder / "checkpoints" / "last.pt"
    if last is None or not last.is_file():
        return message + "; no checkpoint had been written yet"
    return message + f"; the last good checkpoint is {last}"
