"""A sweep: many runs, each found again by its settings and its data, and trained by whoever an engine gives it to."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import torch

from vsc import data
from vsc.data.split import Dataset
from vsc.errors import Interrupted, RunError, UsageError
from vsc.files import claimed
from vsc.measure.measured import Measured
from vsc.measure.results import Results, measured
from vsc.measure.returning import read_trace, write_trace
from vsc.settings.build import Form, build_model, form_of
from vsc.settings.config import Config, DataConfig, ModelConfig, as_plain
from vsc.settings.resolve import resolve
from vsc.sweep.engine import Ended, run
from vsc.training import runs
from vsc.training.loop import Watch, train

Tell = Callable[[str], None]
"""What is done with a line about the sweep's progress."""


class Job(NamedTuple):
    """One run of a sweep: light, for it is sent to workers, which load the data themselves."""

    label: str  # what people call it
    config: Config  # resolved
    folder: Path  # by `plan` named after these settings and the data
    content: str  # the data's `Dataset.content`
    metrics: tuple[str, ...] = ()  # what to measure besides the scores
    iwae: int | None = None  # draws of the importance-weighted bound
    latents: bool = False  # whether to keep what its latents do, for `measure.returning`


def key(config: Config, data: Dataset) -> str:
    """
    Return what a run's numbers depend on as 16 hexadecimal digits: 8 for resolved settings, 8 for the data's content.

    Settings that are `NEUTRAL` do not count, nor do those at their default: one that is added to the library leaves
    earlier runs where they are.
    """
    usual = as_plain(asdict(Config()))
    plain = {
        f"{part}.{name}": value
        for part, settings in as_plain(asdict(config)).items()
        for name, value in settings.items()
        if f"{part}.{name}" not in NEUTRAL and value != usual[part][name]
    }
    return _digest(json.dumps(plain, sort_keys=True)) + _digest(data.content)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


NEUTRAL = ("data.root", *(f"train.{n}" for n in ("device", "devices", "nodes", "log_every", "checkpoint_every")))
"""Settings that leave a run's numbers as they are, but for rounding."""


def plan(label: str, config: Config, root: Path, metrics: Sequence[str] = (), iwae: int | None = None) -> Job:
    """
    Turn settings as asked for into a job: resolved, checked, and with a folder of its own in that of all runs.

    UsageError if a setting is wrong, or the run's folder was edited by hand.
    """
    loaded = dataset(config.data)
    resolved = checked(config, loaded)
    digits = key(resolved, loaded)
    name = f"{Path(config.data.name).stem}-{config.model.name}-J{config.model.latent_dim}-"
    folder = root / (name + digits)
    if runs.is_run(folder):
        saved = runs.read_config(folder)
        if key(saved, loaded) != digits:
            raise UsageError(f"the config.yaml in {folder} is not what its name stands for; remove the folder")
        resolved = replace(saved, data=replace(saved.data, root=config.data.root))
    return Job(label, resolved, folder, loaded.content, tuple(metrics), iwae)


def checked(config: Config, data: Dataset) -> Config:
    """Resolve settings, and find what is wrong with them (UsageError) before anything is trained."""
    resolved = resolve(config, data)
    _buildable(resolved.model, form_of(data), len(data.train))
    return resolved


@lru_cache(maxsize=256)
def _buildable(model: ModelConfig, form: Form, examples: int) -> None:
    """Lay a model out on the device that holds no numbers, so that nothing is built in vain."""
    prior = getattr(build_model(model, form, "meta"), "prior", None)
    if prior is not None and prior.wants:
        prior.start_at(torch.empty(min(prior.wants, examples), form.size, device="meta"))


def dataset(config: DataConfig) -> Dataset:
    """Load a data set once for all runs of this process, and again when its files have changed."""
    return _loaded(replace(config, scale="auto", binarise=False), _stamp(config.name, config.root))


@lru_cache(maxsize=2)
def _loaded(config: DataConfig, stamp: tuple) -> Dataset:
    known = (config.name, config.root, config.valid_fraction, config.seed, config.label, config.drop, config.columns)
    return data.load(*known, config.size)


def _stamp(name: str, root: str | None) -> tuple:
    """Say of a file, or of those in a folder, which they are, when they were last written, and their sizes."""
    if name in data.DATASETS:
        return ()
    path = Path(name).expanduser()
    path = path if path.exists() or not root else Path(root).expanduser() / path
    files = [path, *path.iterdir()] if path.is_dir() else [path] if path.exists() else []
    return (path.absolute(), *((one.name, one.stat().st_mtime_ns, one.stat().st_size) for one in files))


def outdated(jobs: Sequence[Job]) -> str:
    """Say in one line that runs of the same settings on other data are there, where any are to be trained anew."""
    for job in jobs:
        pattern = f"{job.folder.name[:-8]}{'[0-9a-f]' * 8}"
        if not runs.is_run(job.folder) and any(map(runs.is_run, job.folder.parent.glob(pattern))):
            where = job.folder.parent
            return f"{job.config.data.name}: the data have changed since; runs on what they were stay in {where}"
    return ""


def finish(
    job: Job,
    split: str = "test",
    progress: bool = False,
    watch: Watch | None = None,
    data: Dataset | None = None,
    keep: dict[Path, Measured | None] | None = None,
) -> Results:
    """
    Train a job's run, or take it up where it is, and measure it; whatever was done before is found again.

    `data` is given where it is at hand. `keep` takes up what was encoded, under the run's folder: where that is a key,
    and the run is trained here. Busy if another process is at it; RunError too where the data are not what they were.
    """
    data = dataset(job.config.data) if data is None else data
    if data.content != job.content:
        raise RunError(f"the data {data.name} have changed since this was begun; give the command again")
    seen = None
    if not runs.is_finished(job.folder):  # one that is finished is only read, however many do so at once
        with claimed(job.folder):
            resume = runs.is_finished(job.folder) or (job.folder / "checkpoints" / "last.pt").is_file()
            how = {"resume": resume, "overwrite": not resume, "progress": progress, "watch": watch, "tell": _silent}
            model = train(data, job.config, job.folder, **how)
        seen = Measured(model, data, split)
        if keep is not None and job.folder in keep:
            keep[job.folder] = seen
    if job.latents and read_trace(job.folder, split) is None:
        seen = Measured(job.folder, data, split) if seen is None else seen
        write_trace(job.folder, seen)
    return measured(job.folder, data, split, job.metrics, iwae=job.iwae, again=False, seen=seen)


def _silent(said: str) -> None:
    """Say nothing of the data, which all runs share: what plans them says it once."""


def sweep(
    jobs: Sequence[Job],
    workers: int = 1,
    split: str = "test",
    tell: Tell = print,
    command: str | None = None,
    progress: bool = False,
    engine: str = "loky",
    data: Dataset | None = None,
    keep: dict[Path, Measured | None] | None = None,
) -> list[Results]:
    """
    Finish all jobs, begun in their order, and return the results of each; the same run may occur twice.

    Any number of sweeps, on this machine or on others that see the same folder, may work on the same jobs: each run is
    claimed by one process at a time, and one that dies loses no more than its run's last checkpoint interval.

    `workers` and `engine` are as for `engine.run`, with a bar each if `progress` and one worker; `data` and `keep` as
    for `finish`, where this process does the work. `tell` is given a line for each run that ends, and `command` is what
    to type after an interruption. RunError if runs failed, after all others are finished.
    """
    distinct = _distinct(jobs)
    missing = [job for job in distinct if not runs.is_finished(job.folder)]
    clock = _Clock(missing, tell)
    if line := outdated(missing):
        tell(line)
    ordered = missing + [job for job in distinct if job not in missing]
    failures: list[str] = []
    found: dict[Path, Results] = {}

    def ended(said: Ended) -> None:
        job = ordered[said.place]
        clock.done(job, said.problem)
        if said.problem:
            failures.append(f"{job.label}: {said.problem}")
        else:
            found[job.folder] = said.value

    work = partial(finish, split=split)
    engine = engine if missing else "loky"
    if engine == "loky" and min(workers, len(missing)) < 2:
        workers = min(workers, 1)
        work = partial(work, progress=progress, data=data, keep=keep)
    try:
        run(work, ordered, ended, workers, engine)
    except Interrupted as stop:
        done = sum(runs.is_finished(job.folder) for job in distinct)
        raise Interrupted(f"stopped with {done} of {len(distinct)} runs finished", command, stop.signum) from None
    if failures:
        raise RunError(f"{len(failures)} of {len(distinct)} runs failed; {failures[0]}")
    return [found[job.folder] for job in jobs]


def _distinct(jobs: Sequence[Job]) -> list[Job]:
    """Return each run once, with all that is asked of it."""
    distinct: dict[Path, Job] = {}
    for job in jobs:
        before = distinct.setdefault(job.folder, job)
        metrics = dict.fromkeys((*before.metrics, *job.metrics))
        asked = {"iwae": before.iwae or job.iwae, "latents": before.latents or job.latents}
        distinct[job.folder] = before._replace(metrics=tuple(metrics), **asked)
    return list(distinct.values())


class _Clock:
    """How much of a sweep is done, and about how long the rest will take."""

    def __init__(self, missing: Sequence[Job], tell: Tell):
        self.missing, self.tell = {job.folder: job for job in missing}, tell
        self.begun = time.monotonic()
        self.earlier = sum(_cost(job) * _share(job) for job in missing)
        self.ended: set[Path] = set()

    def done(self, job: Job, problem: str = "") -> None:
        """Report a job that came to an end; those that were finished before are passed over."""
        if job.folder not in self.missing or job.folder in self.ended:
            return
        self.ended.add(job.folder)
        total = sum(_cost(one) for one in self.missing.values())
        now = sum(_cost(one) * (1 if one.folder in self.ended else _share(one)) for one in self.missing.values())
        gone = time.monotonic() - self.begun
        left = gone * (total - now) / max(now - self.earlier, 1e-9)
        state = f"failed: {problem}" if problem else "done"
        rest = f", about {_duration(left)} left" if len(self.ended) < len(self.missing) else ""
        self.tell(f"[{len(self.ended)}/{len(self.missing)}] {job.label}: {state}; {_duration(gone)} gone{rest}")


def _cost(job: Job) -> float:
    model = job.config.model
    return (job.config.train.steps or 0) * (100 + model.latent_dim) * (2 if model.gates == "pseudo-inputs" else 1)


def _share(job: Job) -> float:
    if runs.is_finished(job.folder):
        return 1.0
    steps = [row["step"] for row in runs.read_history(job.folder)]
    return steps[-1] / (job.config.train.steps or 1) if steps else 0.0


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
