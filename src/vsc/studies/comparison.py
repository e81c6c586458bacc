"""The main job: train several models on the same data, measure them once on the test set, and write one page."""

import os
import shlex
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from vsc import report
from vsc.data.split import Dataset
from vsc.errors import UsageError, choose
from vsc.files import whole, write_json
from vsc.measure.results import measured
from vsc.measure.scores import Scores
from vsc.measure.showcase import showcase
from vsc.report import writing as reporting
from vsc.settings import build, upgrade
from vsc.settings.config import Compare, Config, ModelConfig, as_plain
from vsc.settings.presets import DATA_PRESETS, PRESETS, changed
from vsc.torchstate import cpu_threads
from vsc.training import runs
from vsc.training.loop import Interrupted, train


@dataclass(frozen=True)
class Trained:
    """One model of a comparison, trained and measured on every seed."""

    name: str
    title: str
    config: Config
    folder: Path
    scores: list[Scores]
    seconds: list[float]
    parameters: int

    @property
    def likelihood(self) -> str:
        """The likelihood's name, with every setting that its nats depend on."""
        return build.build_likelihood(self.config.model).label

    @property
    def mean(self) -> Scores:
        """Mean over the seeds."""
        return _over(statistics.fmean, self.scores)

    @property
    def spread(self) -> Scores | None:
        """Standard deviation over the seeds; None for a single one."""
        if len(self.scores) < 2:
            return None
        return _over(statistics.stdev, self.scores)


def _over(statistic: Callable[[Sequence[float]], float], scores: Sequence[Scores]) -> Scores:
    """Apply a statistic to every score over the seeds; None where a model has no such score."""
    columns: list[Any] = [[getattr(one, name) for one in scores] for name in Scores._fields]
    return Scores._make(None if None in column else statistic(column) for column in columns)


def compare(config: Compare, data: Dataset, folder: Path, command: str, progress: bool = False) -> list[Trained]:
    """
    Train, evaluate and write `results.json` and `report.html`, and a page on the first run of each model.

    Parameters
    ----------
    config : Compare
        The common settings and the names of the models.
    data : Dataset
        The data; the test split is used once, at the end.
    folder : Path
        Where the page and one run folder for each model and seed go.
    command : str
        What to type to make the page again.
    progress : bool
        Whether to show progress bars.

    Returns
    -------
    list of Trained
        In the order of `config.models`.

    Raises
    ------
    UsageError
        If a name is unknown, the folder is taken, or a setting is wrong; checked before anything is trained.
    """
    plan = _plan(config, data)
    _prepare(folder, config)
    trained = []
    for name, one in plan.items():
        print(f"training {PRESETS[name][0]}", flush=True)
        try:
            trained.append(_train_and_measure(name, one, data, folder, config.seeds, progress))
        except Interrupted as stop:
            raise Interrupted(f"{PRESETS[name][0]} {stop.reached}", _to_resume(command), stop.signum) from None
    _write_results(trained, data, folder, command)
    _write_page(trained, data, folder, command)
    return trained


def _plan(config: Compare, data: Dataset) -> dict[str, Config]:
    """Return each model's settings, all checked: every mistake shows before the first step."""
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
    default = ModelConfig()
    if (common.model.likelihood, common.model.variance) == (default.likelihood, default.variance):
        common = changed(common, DATA_PRESETS.get(data.name, {}))
    plan = {name: changed(common, choose(PRESETS, name, "model to compare")[1]) for name in names}
    idle = {name: build.unused(one) for name, one in plan.items()}
    if nowhere := set.intersection(*map(set, idle.values())):
        raise UsageError(f"{min(nowhere)} does nothing with any of these models; leave it out")
    plan = {name: build.without(one, idle[name]) for name, one in plan.items()}
    for one in plan.values():
        build.new_model(build.resolve(one, data), data)
    return plan


def _to_resume(command: str) -> str:
    words = [word for word in shlex.split(command) if word not in ("--overwrite", "--resume")]
    return shlex.join([*words, "--resume"])


def _prepare(folder: Path, config: Compare) -> None:
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
    elif folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose another folder with --out")
    asked = {k: v for k, v in as_plain(asdict(config)).items() if k not in ("out", "resume", "overwrite")}
    with whole(folder / "comparison.yaml") as temporary:
        temporary.write_text(yaml.safe_dump({"format": upgrade.FORMAT} | asked, sort_keys=False), encoding="utf-8")


def read_settings(folder: Path) -> dict[str, Any]:
    """
    Read what a comparison was asked for, to go on with it.

    Parameters
    ----------
    folder : Path
        Its folder.

    Returns
    -------
    dict
        Settings as in `Compare`, without the folder; empty where there is no comparison yet.

    Raises
    ------
    UsageError
        If the file is damaged.
    """
    path = folder / "comparison.yaml"
    if not path.is_file():
        return {}
    saved = upgrade.read_settings(path)
    if missing := {"data", "model", "train", "models", "seeds"} - saved.keys():
        raise UsageError(f"{path} is damaged: it has no {min(missing)}; start anew with --overwrite")
    return saved


def _remove(folder: Path) -> None:
    """Remove what a comparison wrote, its runs included; whatever else is in the folder stays."""
    for run in folder.iterdir():
        name, _, seed = run.name.partition("-seed")
        if name in PRESETS and (seed.isdecimal() or run.name == name) and runs.is_run(run):
            runs.remove(run)
    for name in ("report.html", "results.json", "comparison.yaml"):
        (folder / name).unlink(missing_ok=True)


def _train_and_measure(name: str, config: Config, data: Dataset, folder: Path, seeds: int, progress: bool) -> Trained:
    first = folder / name if seeds == 1 else folder / f"{name}-seed{config.train.seed}"
    scores, seconds, parameters = [], [], 0
    for seed in range(config.train.seed, config.train.seed + seeds):
        run = folder / name if seeds == 1 else folder / f"{name}-seed{seed}"
        one = changed(config, {"train.seed": seed})
        started = runs.is_finished(run) or (run / "checkpoints" / "last.pt").is_file()
        model = train(data, one, run, resume=started, overwrite=not started, progress=progress)
        scores.append(measured(run, data, again=False).scores)
        seconds.append(runs.read_history(run)[-1]["seconds"])
        parameters = sum(p.numel() for p in model.parameters())
    return Trained(name, PRESETS[name][0], runs.read_config(first), first, scores, seconds, parameters)


def _write_results(trained: list[Trained], data: Dataset, folder: Path, command: str) -> None:
    models = {
        one.name: {
            "title": one.title,
            "config": as_plain(asdict(one.config)),
            "parameters": one.parameters,
            "seconds": one.seconds,
            "mean": one.mean._asdict(),
            "spread": None if one.spread is None else one.spread._asdict(),
            "seeds": [scores._asdict() for scores in one.scores],
        }
        for one in trained
    }
    about = {"command": command, "data": data.name, "split": "test", "examples": len(data.test)}
    write_json(folder / "results.json", about | {"environment": runs.environment(), "models": models})


def _write_page(trained: list[Trained], data: Dataset, folder: Path, command: str) -> None:
    entries = []
    for one in trained:
        with torch.random.fork_rng(devices=[]):
            model = runs.load(one.folder)
            with cpu_threads(model):
                shown = showcase(model, data)
        entries.append(
            report.Entry(
                name=one.name,
                title=one.title,
                scores=one.mean,
                settings=as_plain(asdict(one.config)),
                history=runs.read_history(one.folder),
                showcase=shown,
                seconds=statistics.fmean(one.seconds),
                parameters=one.parameters,
                seeds=len(one.scores),
                spread=one.spread,
                link=f"{one.folder.name}/report.html",
            )
        )
    page = report.Page(
        title=f"{', '.join(one.title for one in trained)} on {data.name}",
        data=data.name,
        shape=data.shape,
        features=data.features,
        classes=data.classes,
        entries=entries,
        command=command,
        environment=runs.environment(),
        latent_dim=trained[0].config.model.latent_dim,
        likelihood=trained[0].likelihood,
        test_examples=len(data.test),
    )
    report.write(page, folder / "report.html")
    for one in trained:
        model = runs.load(one.folder)
        with cpu_threads(model):
            reporting.write(one.folder, model, data, scores=one.scores[0])
