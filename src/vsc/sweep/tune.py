"""Search for the settings that are best on the validation part: trials proposed, pruned and kept by optuna."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from vsc.data.batches import mixed
from vsc.data.split import Dataset
from vsc.errors import Busy, Interrupted, RunError, UsageError, at_least, choose
from vsc.files import claimed, write_json
from vsc.measure.measured import measure, pick
from vsc.measure.results import Results
from vsc.metrics import METRICS, metric_of
from vsc.model import MODELS
from vsc.settings import build
from vsc.settings.commands import Tune
from vsc.settings.config import Config, as_plain
from vsc.settings.presets import changed, word
from vsc.settings.resolve import resolve
from vsc.settings.upgrade import write_settings
from vsc.sweep.engine import Ended, run
from vsc.sweep.jobs import Job, Tell, checked, dataset, finish, key, plan
from vsc.sweep.space import Setting, default, parse
from vsc.sweep.trials import open_study, optuna, trial_of
from vsc.training import runs

SCORES = {"elbo": "higher", "log_px": "higher"}
SCORES |= {"mse": "lower", "denoise_mse": "lower", "denoise_psnr": "higher", "probe": "higher"}
"""The fields of `Scores` that can be the aim -> which end is better."""

WHILE_TRAINING = ("elbo", "log_px")
"""Those of them that validations give, so that a bad run can be stopped early."""

PRUNERS: dict[str, Callable[[Any], Any]] = {
    "median": lambda pruners: pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=20),
    "halving": lambda pruners: pruners.SuccessiveHalvingPruner(min_resource=20, reduction_factor=2),
    "none": lambda pruners: pruners.NopPruner(),
}
"""Name -> pruner of optuna, from its module of pruners. Its step is the per cent of a run's steps."""


class Search(NamedTuple):
    """What is searched, and how."""

    common: Config  # the settings that all trials share
    space: tuple[Setting, ...]  # those that differ
    metric: str  # what is to be best
    better: str  # higher or lower
    pruner: str  # in PRUNERS
    trials: int  # how many
    folder: Path  # its runs lie in folder/runs
    storage: str  # where optuna keeps the trials
    name: str  # optuna's study: trials of another question, or on other data, are another

    def study(self) -> Any:
        """Open optuna's study."""
        return open_study(self.storage, self.name, {"higher": "maximize", "lower": "minimize"}[self.better])

    def job(self, label: str, settings: Mapping[str, Any]) -> Job:
        """Return the run that has these settings."""
        metrics = () if self.metric in SCORES else (_family(self.metric),)
        return plan(label, changed(self.common, settings), self.folder / "runs", metrics)

    def value(self, results: Results) -> float:
        """Return what is to be best."""
        found = getattr(results.scores, self.metric) if self.metric in SCORES else results.metrics[self.metric]
        if found is None or not math.isfinite(found):
            raise RunError(f"{self.metric} came out as {found}")
        return found


class Tried(NamedTuple):
    """One trial that came to an end."""

    trial: str  # its name
    state: str = "failed"  # or complete, or pruned
    value: float | None = None  # of the metric on the validation part; of a pruned one, what its last validation gave
    settings: Mapping[str, Any] = MappingProxyType({})  # dotted, those that were searched
    run: str | None = None  # its run folder's name
    problem: str | None = None  # why it failed


class Found(NamedTuple):
    """What a search found."""

    search: Search
    tried: list[Tried]  # all that came to an end, in their order
    best: Tried  # of the complete ones
    job: Job  # the best one's run


def tune(config: Tune, folder: Path, command: str, tell: Tell = print, progress: bool = False) -> Found:
    """
    Search, and write best.yaml and tune.json into `folder`; trials of earlier calls that asked the same are kept.

    `tell` is given a line for each trial, and `command` is what to type to go on. A wrong setting, space, metric or
    storage is a UsageError before anything is trained; RunError if no trial came to a good end. When interrupted, the
    run that was going on is saved, and its trial waits.
    """
    search = _search(config, folder)
    if config.storage is None:
        folder.mkdir(parents=True, exist_ok=True)
    study = search.study()
    kept = {trial.user_attrs.get("trial"): trial for trial in study.get_trials() if trial.state.is_finished()}
    tried = {number: _tried(search, number, kept[number]) for number in range(search.trials) if number in kept}
    tell(f"searching {', '.join(map(str, search.space))}")
    aim = {"higher": "highest", "lower": "lowest"}[search.better]
    tell(f"{search.trials} trials for the {aim} {search.metric}, {len(tried)} of them there already")
    if not tried and _searched_before(search, study):
        tell(f"{search.common.data.name}: the data have changed since this was searched before; it begins anew")
    begun, there, missing = time.monotonic(), len(tried), [n for n in range(search.trials) if n not in tried]

    def ended(said: Ended) -> None:
        one = tried[missing[said.place]] = said.value or Tried(f"trial {missing[said.place] + 1}", problem=said.problem)
        left = (time.monotonic() - begun) / (len(tried) - there) * (search.trials - len(tried))
        rest = f"; about {left:.0f} s left" if len(tried) < search.trials else ""
        tell(f"[{len(tried)}/{search.trials}] {_line(one, search.metric)}{rest}")

    try:
        work = partial(_carry_out, search, progress=progress and config.workers == 1 and config.engine == "loky")
        run(work, missing, ended, config.workers, config.engine if missing else "loky")
    except Interrupted as stop:
        raise Interrupted(f"stopped with {len(tried)} of {search.trials} trials ended", command, stop.signum) from None
    return _write(search, [tried[number] for number in sorted(tried)], command)


def _carry_out(search: Search, number: int, progress: bool = False) -> Tried:
    """Train and measure one trial, or take it up where it is; Busy if another process is at it."""
    with claimed(search.folder / f".{search.name}-{number}"):  # it ends with its process, the trial's state does not
        study = search.study()
        trial = trial_of(study, number)
        if not trial.state.is_finished():
            study.sampler = optuna().samplers.TPESampler(seed=mixed(search.common.train.seed, number))  # repeatable
            study.pruner = PRUNERS[search.pruner](optuna().pruners)
            try:
                value = _measure(search, optuna().trial.Trial(study, trial._trial_id), number, progress)
                study.tell(trial.number, value)
            except optuna().TrialPruned:
                study.tell(trial.number, state=optuna().trial.TrialState.PRUNED)
            except (RunError, UsageError) as error:
                if isinstance(error, Busy):
                    raise
                study._storage.set_trial_user_attr(trial._trial_id, "problem", str(error))
                study.tell(trial.number, state=optuna().trial.TrialState.FAIL)
        return _tried(search, number, trial_of(study, number))


def _measure(search: Search, trial: Any, number: int, progress: bool) -> float:
    """Train and measure one trial; raise TrialPruned when it falls behind the others."""
    job = search.job(f"trial {number + 1}", {setting.name: setting.suggest(trial) for setting in search.space})
    trial.set_user_attr("folder", job.folder.name)
    steps, seen = job.config.train.steps or 1, set(trial.storage.get_trial(trial._trial_id).intermediate_values)

    def watch(row: dict[str, Any]) -> None:
        share, value = round(100 * row["step"] / steps), row.get(search.metric)
        if value is None or not math.isfinite(value) or share in seen or share >= 100:
            return
        seen.add(share)
        trial.report(value, share)
        if trial.should_prune():
            raise optuna().TrialPruned

    return search.value(finish(job, "valid", progress, watch if search.metric in WHILE_TRAINING else None))


def shared(config: Tune, folder: Path) -> tuple[Config, Dataset]:
    """Return the settings that all runs have, and the data, once what every tuning asks for is checked."""
    at_least(1, config.workers, "workers")
    if config.train.devices * config.train.nodes > 1:
        raise UsageError("tune trains every run in one process; use --workers for several runs at a time")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose another folder with --out")
    data = dataset(config.data)
    pick(data, "valid")
    return Config(config.data, config.model, config.train), data


def _search(config: Tune, folder: Path) -> Search:
    """Check everything that can be checked before the first step."""
    at_least(1, config.trials, "trials")
    if config.at is not None or config.seeds != Tune.seeds:
        raise UsageError("at and seeds are for --choose l0; name it, or leave them out")
    choose(PRUNERS, config.pruner, "pruner")
    better = _better(config.metric)
    space = () if config.space is None else parse(config.space)
    common, loaded = shared(config, folder)
    space = space or default(common)
    names = {common.model.name}
    for setting in space:
        for value in setting.extremes():
            names |= {value} if setting.name == "model.name" else set()
            try:
                checked(changed(common, {setting.name: value}), loaded)
            except UsageError as error:
                raise UsageError(f"space: {setting}: {error}") from error
    if config.metric == "elbo" and (unbounded := [name for name in names if not MODELS[name].bounded]):
        raise UsageError(f"model {unbounded[0]} has no ELBO; choose another --metric, such as mse")
    searched = {setting.name for setting in space}
    unlike = searched & {"model.likelihood", "model.variance", "model.variance_floor"}
    if unlike and config.metric in WHILE_TRAINING:
        raise UsageError(f"{config.metric} does not compare across {unlike.pop()}; choose another --metric, or fix it")
    _check_metric(config.metric, common, loaded)
    digits = key(resolve(common, loaded), loaded)
    question = hashlib.sha256(json.dumps([digits[:8], *map(str, space), config.metric]).encode()).hexdigest()[:8]
    return Search(
        *(common, space, config.metric, better, config.pruner, config.trials, folder),
        storage=config.storage or str(folder / "journal.log"),
        name=f"tune-{Path(common.data.name).stem}-{question}{digits[8:]}",
    )


def _searched_before(search: Search, study: Any) -> bool:
    """Whether the same was searched on other data."""
    names = optuna().get_all_study_names(study._storage)
    return any(name != search.name and name[:-8] == search.name[:-8] for name in names)


def _better(metric: str) -> str:
    """Return which end of a metric is better."""
    aims = SCORES | {name: one.better for name, one in METRICS.items() if one.better}
    family = _family(metric)
    if metric not in SCORES and family in METRICS and not METRICS[family].better:
        raise UsageError(f"neither more nor less {metric} is better by itself; choose one of: {', '.join(aims)}")
    return choose(aims, metric if metric in SCORES else family, "metric")


def _family(metric: str) -> str:
    """Return the metric that a part such as knn-1000 belongs to; what belongs to none stays as it is."""
    try:
        return metric_of(metric)
    except ValueError:
        return metric


def _check_metric(metric: str, common: Config, data: Dataset) -> None:
    """Measure an untrained model: what the metric needs must be known of the data, and be one number."""
    if metric == "probe" and (data.valid.y is None or data.train.y is None):
        raise UsageError(f"metric 'probe' needs labels, and {data.name} has none")
    if metric in SCORES:
        return
    model = build.new_model(resolve(common, data), data).eval()
    parts = measure(model, data, [_family(metric)], "valid")
    if metric not in parts:
        raise UsageError(f"metric {metric!r} is not a single number; choose one of: {', '.join(parts)}")


def _tried(search: Search, number: int, trial: Any) -> Tried:
    """Read what optuna keeps of a trial that has ended."""
    settings = {one.name: one.value(trial.params[one.name]) for one in search.space if one.name in trial.params}
    state = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}[trial.state.name]
    known = trial.user_attrs
    return Tried(f"trial {number + 1}", state, trial.value, settings, known.get("folder"), known.get("problem"))


def _line(tried: Tried, metric: str) -> str:
    outcome = f"{metric} {tried.value:.5g}" if tried.value is not None else ""
    outcome = {"complete": outcome, "pruned": f"stopped early at {outcome}", "failed": f"failed: {tried.problem}"}
    settings = ", ".join(f"{name} {text(value)}" for name, value in tried.settings.items())
    return f"{tried.trial}: {settings}: {outcome[tried.state]}"


def text(value: Any) -> str:
    """Write a setting's value in a few digits."""
    return f"{value:.3g}" if isinstance(value, float) else word(value)


def _write(search: Search, tried: list[Tried], command: str) -> Found:
    """Write best.yaml and tune.json."""
    best = next(iter(ranked(tried, search.better)), None)
    if best is None:
        raise RunError(f"none of {len(tried)} trials came to a good end; the last: {tried[-1].problem or 'pruned'}")
    job = search.job(best.trial, best.settings)
    write_settings(search.folder / "best.yaml", asdict(job.config))
    write_json(
        search.folder / "tune.json",
        {
            "command": command,
            "data": search.common.data.name,
            "split": "valid",
            "metric": search.metric,
            "better": search.better,
            "space": [str(setting) for setting in search.space],
            "seed": search.common.train.seed,
            "pruner": search.pruner if search.metric in WHILE_TRAINING else "none",
            "best": best.trial,
            "trials": [as_plain(one._asdict()) for one in tried],
            "settings": as_plain(asdict(search.common)),
            "environment": runs.environment() | {"optuna": version("optuna")},
        },
    )
    return Found(search, tried, best, job)


def ranked(tried: list[Tried], better: str) -> list[Tried]:
    """Return the complete trials, the best first."""
    complete = [one for one in tried if one.state == "complete"]
    return sorted(complete, key=lambda one: one.value or 0.0, reverse=better == "higher")
