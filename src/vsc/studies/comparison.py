"""The main job: train several models on the same data, measure them once on the test set, and write one page."""

import os
import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from vsc import report
from vsc.data.split import Dataset
from vsc.errors import UsageError
from vsc.files import write_json
from vsc.measure.measured import Measured
from vsc.measure.results import Results
from vsc.measure.returning import Returning, match_runs, read_trace
from vsc.measure.showcase import showcase
from vsc.report import run as run_page
from vsc.report.entry import Entry
from vsc.report.lead import Contest
from vsc.report.words import listing
from vsc.settings import upgrade
from vsc.settings.commands import Compare
from vsc.settings.config import Config, as_plain
from vsc.settings.presets import PRESETS, changed, named
from vsc.settings.resolve import unused, without
from vsc.studies import equal
from vsc.sweep.jobs import Job, checked, sweep
from vsc.torchstate import cpu_threads
from vsc.training import runs
from vsc.training.checkpoint import check_same
from vsc.training.diagnosis import beforehand
from vsc.training.loop import warn


def compare(
    config: Compare,
    data: Dataset,
    folder: Path,
    command: str,
    progress: bool = False,
    caution: Callable[[str], None] = warn,
) -> list[Entry]:
    """
    Train, evaluate and write `results.json` and `report.html`, and a page on the first run of each model.

    The test split is used once, at the end. The folder takes the page and one run folder for each model and seed;
    `command` is what to type to make the page again. Every mistake is told of before anything is trained, and `caution`
    is given a line on what of the data will go wrong, where something will.
    """
    planned = _plan(config, data, folder)
    _prepare(folder, config, data)
    if said := beforehand(data, config.model.latent_dim):
        caution(said)
    how = {"workers": config.workers, "engine": config.engine, "progress": progress, "command": _to_resume(command)}
    trained = _train({PRESETS[name][0]: group for name, group in planned.items()}, data, how)
    if config.equal and {"vae", equal.LEAD} <= planned.keys():
        small = equal.small(planned["vae"], trained[[*planned].index(equal.LEAD)], data)
        trained += _train(small, data, how)
    contest = equal.contest(trained)
    trained = [equal.looked_into(one, contest) for one in trained]
    _write_results(trained, contest, data, folder, command)
    _write_page(trained, contest, data, folder, command)
    return trained


def _train(groups: dict[str, list[Job]], data: Dataset, how: dict[str, Any]) -> list[Entry]:
    """Train and measure the runs of each title."""
    kept: dict[Path, Measured | None] = {group[0].folder: None for group in groups.values()}
    jobs = [job for group in groups.values() for job in group]
    results = iter(sweep(jobs, tell=partial(print, flush=True), data=data, keep=kept, **how))
    return [
        _entry(title, group, [next(results) for _ in group], kept[first := group[0].folder] or Measured(first, data))
        for title, group in groups.items()
    ]


def _entry(title: str, jobs: list[Job], results: list[Results], seen: Measured) -> Entry:
    """Gather what is known of the runs of a model, the first of them as `seen`."""
    first, several = jobs[0], len(jobs) > 1
    runs_of = reversed(list(zip(jobs, results, strict=True)))  # of a sentence that several seeds bring, the first
    told = {said: job.config.train.seed for job, one in runs_of for said in one.cautions}
    histories = [runs.read_history(job.folder) for job in jobs]
    return Entry(
        name=_name(first.folder),
        title=title,
        latent_dim=seen.model.latent_dim,
        spiked=seen.model.spiked,
        scores=[one.scores for one in results],
        settings=as_plain(asdict(first.config)),
        likelihood=results[0].likelihood,
        parameters=sum(p.numel() for p in seen.model.parameters()),
        seconds=[history[-1]["seconds"] for history in histories],
        cautions=[f"(seed {seed}) {said}" if several else said for said, seed in told.items()],
        link=f"{first.folder.name}/report.html",
        returning=_returning(jobs),
        history=histories[0],
        seen=seen,
    )


def _name(run: Path) -> str:
    """Return the model's name of a run folder."""
    name, _, seed = run.name.rpartition("-seed")
    return name if name and seed.isdecimal() else run.name


def _returning(jobs: list[Job]) -> Returning | None:
    """Match the latents of the runs of a model, where there are several."""
    runs_kept = [one for job in jobs if job.latents and (one := read_trace(job.folder)) is not None]
    return match_runs(runs_kept) if len(runs_kept) > 1 else None


def _plan(config: Compare, data: Dataset, folder: Path) -> dict[str, list[Job]]:
    """Return each model's runs, their settings checked: every mistake shows before the first step."""
    names = [name.strip() for name in config.models.split(",") if name.strip()]
    if not names or len(set(names)) != len(names):
        raise UsageError(f"models needs different names separated by commas, not {config.models!r}")
    if config.seeds < 1:
        raise UsageError(f"seeds must be at least 1, not {config.seeds}")
    if config.resume and config.overwrite:
        raise UsageError("--resume goes on with a comparison and --overwrite replaces it; choose one of them")
    if config.train.devices * config.train.nodes > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("compare runs in one process; use train for each model to train it in several")
    common = Config(config.data, config.model, config.train)
    models = {name: changed(common, named(name, "model to compare")[1]) for name in names}
    idle = {name: unused(one) for name, one in models.items()}
    if nowhere := set.intersection(*map(set, idle.values())):
        raise UsageError(f"{min(nowhere)} does nothing with any of these models; leave it out")
    planned: dict[str, list[Job]] = {name: [] for name in names}
    resumed = config.resume and (folder / "comparison.yaml").is_file()
    for name, one in models.items():
        for seed in range(config.train.seed, config.train.seed + config.seeds):
            resolved = checked(changed(without(one, idle[name]), {"train.seed": seed}), data)
            run = folder / (name if config.seeds == 1 else f"{name}-seed{seed}")
            if resumed and runs.is_run(run) and not runs.changed_data(run, data):
                check_same(run, resolved, data)
            label = PRESETS[name][0] + ("" if config.seeds == 1 else f", seed {seed}")
            planned[name].append(Job(label, resolved, run, data.content, latents=config.seeds > 1))
    return planned


def _to_resume(command: str) -> str:
    words = [word for word in shlex.split(command) if word not in ("--overwrite", "--resume")]
    return shlex.join([*words, "--resume"])


def _prepare(folder: Path, config: Compare, data: Dataset) -> None:
    """Make the folder, or check that it may be used; comparison.yaml marks it as ours."""
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / "comparison.yaml").is_file():
            raise UsageError(f"{folder} exists and holds no comparison; choose another with --out")
        if config.overwrite:
            _remove(folder)
        elif not config.resume:
            raise UsageError(
                f"{folder} holds a comparison; go on with --resume, replace it with --overwrite, or choose --out"
            )
        elif old := [run for run in _runs(folder) if runs.changed_data(run, data)]:
            aside = next(path for i in range(1, 1000) if not (path := folder / f"before-{i}").exists())
            print(f"{runs.changed_data(old[0], data)}; {len(old)} runs go to {aside}, new ones follow", flush=True)
            aside.mkdir()
            for run in old:
                run.rename(aside / run.name)
    elif folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose another folder with --out")
    asked = {name: value for name, value in asdict(config).items() if name not in NOT_KEPT}
    upgrade.write_settings(folder / "comparison.yaml", asked)


def read_settings(folder: Path) -> dict[str, Any]:
    """Read what a comparison was asked for, as in `Compare`, to go on with it; empty where there is none yet."""
    path = folder / "comparison.yaml"
    if not path.is_file():
        return {}
    saved = upgrade.read_settings(path)
    if missing := {"data", "model", "train", "models", "seeds"} - saved.keys():
        raise UsageError(f"{path} is damaged: it has no {min(missing)}; start anew with --overwrite")
    return saved


NOT_KEPT = ("out", "resume", "overwrite", "workers", "engine")
"""Options that say how a comparison is made, not what of."""


def _runs(folder: Path) -> list[Path]:
    """Return a comparison's run folders: those of other names are not its own."""

    def own(run: Path) -> bool:
        name, _, seed = run.name.partition("-seed")
        return name in (*PRESETS, equal.SMALL) and (seed.isdecimal() or run.name == name) and runs.is_run(run)

    return [run for run in folder.iterdir() if own(run)]


def _remove(folder: Path) -> None:
    """Remove what a comparison wrote, its runs included; whatever else is in the folder stays."""
    for run in _runs(folder):
        runs.remove(run)
    for name in ("report.html", "results.json", "comparison.yaml"):
        (folder / name).unlink(missing_ok=True)


def _write_results(trained: list[Entry], contest: Contest | None, data: Dataset, folder: Path, command: str) -> None:
    models = {
        one.name: {
            "title": one.title,
            "config": one.settings,
            "parameters": one.parameters,
            "seconds": one.seconds,
            "mean": one.mean._asdict(),
            "spread": None if one.spread is None else one.spread._asdict(),
            "seeds": [scores._asdict() for scores in one.scores],
            "stability": None if one.returning is None else one.returning.summary,
            "cautions": one.cautions,
            "frontier": None if one.frontier is None else one.frontier.plain(),
            "detectors": None if one.detected is None else one.detected.plain(),
        }
        for one in trained
    }
    about = {"command": command, "data": data.name, "split": "test", "examples": len(data.test)}
    if contest is not None:
        who = {
            name: None if at is None else trained[at].name
            for name, at in zip(("lead", "dense", "small"), contest[:3], strict=True)
        }
        about |= {"equal": who | {"kept": contest.kept}}
    write_json(folder / "results.json", about | {"environment": runs.environment(), "models": models})


def likelihoods(trained: list[Entry]) -> str:
    """Name the likelihood of the models, or of each, where nats of one do not compare with those of another."""
    found: dict[str, list[str]] = {}
    for one in trained:
        found.setdefault(one.likelihood, []).append(one.title)
    if len(found) == 1:
        return next(iter(found))
    told = [f"{likelihood} of {listing(titles)}" for likelihood, titles in found.items()]
    return f"{'; '.join(told)}: their nats do not compare"


def _write_page(trained: list[Entry], contest: Contest | None, data: Dataset, folder: Path, command: str) -> None:
    entries = []
    for one in trained:
        assert one.seen is not None
        with cpu_threads(one.seen.model):
            run_page.write((folder / one.link).parent, one.seen)
            entries.append(replace(one, showcase=showcase(one.seen)))
    page = report.Page(
        title=f"{' · '.join(one.title for one in trained)} on {data.name}",
        data=data.name,
        shape=data.shape,
        features=data.features,
        classes=data.classes,
        entries=entries,
        command=command,
        environment=runs.environment(),
        likelihood=likelihoods(trained),
        test_examples=len(data.test),
        contest=contest,
    )
    report.write(page, folder / "report.html")
