"""A sweep: many runs, each found again by its settings, trained by one or several processes that share a folder."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from vsc import data
from vsc.data.split import Dataset
from vsc.errors import Busy, RunError, UsageError
from vsc.files import claimed
from vsc.measure.results import Results, measured
from vsc.settings import build
from vsc.settings.config import Config, DataConfig, as_plain
from vsc.sweep.claims import Queue
from vsc.sweep.crew import in_processes, stoppable
from vsc.training import runs
from vsc.training.loop import Interrupted, Watch, train

Tell = Callable[[str], None]
"""What is done with a line about the sweep's progress."""


class Job(NamedTuple):
    """
    One run of a sweep.

    Attributes
    ----------
    label : str
        What people call it.
    config : Config
        Its resolved settings.
    folder : Path
        Its run folder, named after these settings.
    metrics : tuple of str
        What to measure besides the scores.
    iwae : int or None
        Draws of the importance-weighted bound.
    """

    label: str
    config: Config
    folder: Path
    metrics: tuple[str, ...] = ()
    iwae: int | None = None


def key(config: Config) -> str:
    """
    Return 12 hexadecimal digits that stand for what a run's numbers depend on.

    Parameters
    ----------
    config : Config
        Resolved settings. Where the data lie, the device and how often a run is logged and saved do not count.

    Returns
    -------
    str
        The same for the same settings. Those at their default do not count either, so that a setting that is added
        to the library leaves earlier runs where they are.
    """
    usual = as_plain(asdict(Config()))
    plain = {
        f"{part}.{name}": value
        for part, settings in as_plain(asdict(config)).items()
        for name, value in settings.items()
        if (part, name) not in NEUTRAL and value != usual[part][name]
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


NEUTRAL = [("data", "root"), *(("train", n) for n in ("device", "devices", "nodes", "log_every", "checkpoint_every"))]
"""Settings that leave a run's numbers as they are, but for rounding."""


def plan(label: str, config: Config, root: Path, metrics: Sequence[str] = (), iwae: int | None = None) -> Job:
    """
    Turn settings into a job: resolved, checked by building the model, and with a folder of its own.

    Parameters
    ----------
    label : str
        What people call it.
    config : Config
        Settings as asked for.
    root : Path
        The folder of all runs.
    metrics, iwae
        As in `Job`.

    Returns
    -------
    Job
        Not started.

    Raises
    ------
    UsageError
        If a setting is wrong, or the run's folder was edited by hand.
    """
    loaded = dataset(config.data)
    resolved = build.resolve(config, loaded)
    build.new_model(resolved, loaded)
    name = f"{Path(config.data.name).stem}-{config.model.name}-J{config.model.latent_dim}-{key(resolved)}"
    folder = root / name
    if runs.is_run(folder):
        saved = runs.read_config(folder)
        if key(saved) != key(resolved):
            raise UsageError(f"the config.yaml in {folder} is not what its name stands for; remove the folder")
        resolved = replace(saved, data=replace(saved.data, root=config.data.root))
    return Job(label, resolved, folder, tuple(metrics), iwae)


def dataset(config: DataConfig) -> Dataset:
    """Load a data set once for all runs of this process."""
    return _loaded(config.name, config.root, config.valid_fraction, config.seed, config.label)


@lru_cache(maxsize=2)
def _loaded(name: str, root: str | None, valid_fraction: float, seed: int, label: str | None) -> Dataset:
    return data.load(name, root, valid_fraction, seed, label)


def finish(job: Job, split: str = "test", progress: bool = False, watch: Watch | None = None) -> Results:
    """
    Train a job's run, or take it up where it is, and measure it; whatever was done before is found again.

    Parameters
    ----------
    job : Job
        From `plan`.
    split : str
        Where to measure.
    progress : bool
        Whether to show a progress bar.
    watch : callable, optional
        As for `vsc.train`.

    Returns
    -------
    Results
        Its numbers.

    Raises
    ------
    Busy
        If another process is at it.
    RunError
        If training fails or files are damaged.
    Interrupted
        If SIGINT or SIGTERM arrives while it trains.
    """
    loaded = dataset(job.config.data)
    with claimed(job.folder):
        started = (job.folder / "checkpoints" / "last.pt").is_file() or runs.is_finished(job.folder)
        if not runs.is_finished(job.folder):
            how = {"resume": started, "overwrite": not started, "progress": progress, "watch": watch}
            train(loaded, job.config, job.folder, **how)
        return measured(job.folder, loaded, split, job.metrics, iwae=job.iwae, again=False)


def sweep(
    jobs: Sequence[Job],
    workers: int = 1,
    split: str = "test",
    tell: Tell = print,
    command: str | None = None,
    progress: bool = False,
    queue: Queue | None = None,
) -> list[Results]:
    """
    Finish all jobs.

    Any number of processes, on this machine or on others that see the same folder, may work on the same jobs: each run
    is claimed by one of them at a time, and a process that dies loses no more than its run's last checkpoint interval,
    which another takes up.

    Parameters
    ----------
    jobs : sequence of Job
        In the order in which they are begun; the same run may occur twice.
    workers : int
        Processes on this machine; 1 works in this one.
    split : str
        Where to measure.
    tell : callable
        Is given a line for each run that is finished.
    command : str, optional
        What to type to go on, for the message of an interrupted sweep.
    progress : bool
        Whether to show a bar for each run, with a single worker.
    queue : Queue, optional
        Says who trains what, where the folder's disk has no locks to rely on.

    Returns
    -------
    list of Results
        One for each job.

    Raises
    ------
    UsageError
        If `workers` < 1.
    RunError
        If runs failed, after all others are finished; or if workers keep dying.
    Interrupted
        If SIGINT or SIGTERM arrives; runs that were going on are saved first.
    """
    if workers < 1:
        raise UsageError(f"workers must be at least 1, not {workers}")
    distinct = list({job.folder: job for job in jobs}.values())
    missing = [job for job in distinct if not runs.is_finished(job.folder)]
    clock = _Clock(missing, tell)
    failures: dict[Path, str] = {}
    if queue is not None:
        queue.enrol({job.folder.name: job.label for job in missing})
        if others := queue.elsewhere():
            tell(others)

    def ended(said: tuple[Job, str]) -> None:
        job, problem = said
        clock.done(job, problem)
        failures.update({job.folder: problem} if problem else {})

    try:
        if workers == 1 or len(missing) < 2:
            with stoppable():
                for said in work(distinct, split, progress, queue):
                    ended(said)
        else:
            in_processes(partial(work, distinct, split, queue=queue), min(workers, len(missing)), ended)
    except Interrupted as stop:
        done = sum(runs.is_finished(job.folder) for job in distinct)
        raise Interrupted(f"stopped with {done} of {len(distinct)} runs finished", command, stop.signum) from None
    if failures:
        label = next(job.label for job in distinct if job.folder in failures)
        raise RunError(f"{len(failures)} of {len(distinct)} runs failed; {label}: {next(iter(failures.values()))}")
    return [finish(job, split) for job in jobs]


def work(
    jobs: Sequence[Job], split: str = "test", progress: bool = False, queue: Queue | None = None
) -> Iterator[tuple[Job, str]]:
    """
    Finish jobs one after another, leaving those that others are at for later.

    Parameters
    ----------
    jobs : sequence of Job
        Any number of processes may be given the same ones.
    split : str
        Where to measure.
    progress : bool
        Whether to show a bar for each run.
    queue : Queue, optional
        As for `sweep`.

    Yields
    ------
    Job
        Finished, here or elsewhere.
    str
        Why it failed; empty if it did not.
    """
    waiting = list(jobs)
    while waiting:
        for job in list(waiting):
            problem = ""
            try:
                _in_turn(job, split, progress, queue)
            except Busy:
                continue
            except (RunError, UsageError, OSError) as error:
                problem = str(error)
            waiting.remove(job)
            yield job, problem
        if waiting:
            time.sleep(1)  # the others' runs are not ours to hurry


def _in_turn(job: Job, split: str, progress: bool, queue: Queue | None) -> None:
    """Finish a job; with a queue, one that is not finished is done only in our turn."""
    if queue is None or runs.is_finished(job.folder):
        finish(job, split, progress)
        return
    with queue.turn(job.folder.name) as turn:
        scores = finish(job, split, progress).scores
        turn.value = scores.log_px if scores.elbo is None else scores.elbo


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
    return (job.config.train.steps or 0) * (100 + model.latent_dim) * (2 if model.prior == "pseudo-inputs" else 1)


def _share(job: Job) -> float:
    if runs.is_finished(job.folder):
        return 1.0
    steps = [row["step"] for row in runs.read_history(job.folder)]
    return steps[-1] / (job.config.train.steps or 1) if steps else 0.0


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
