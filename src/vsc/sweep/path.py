"""A short path over l0, measured without labels on the validation part, and the l0 that it speaks for."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vsc.data.split import Dataset
from vsc.errors import RunError, UsageError, at_least, short
from vsc.files import write_json
from vsc.measure.results import Results
from vsc.measure.returning import Returning, match_runs, read_trace
from vsc.settings.commands import Tune
from vsc.settings.config import Config, as_plain
from vsc.settings.presets import changed
from vsc.settings.schedule import Schedule
from vsc.settings.upgrade import write_settings
from vsc.sweep.jobs import Job, Tell, checked, plan, sweep
from vsc.sweep.tune import shared
from vsc.training import runs

SHARES = (1 / 2, 1 / 1.4, 1.4, 2, 2.8)
"""
What is tried where no values are given, in multiples of the latents that the model has on by itself. Its l0 counts
unused ones that idle too, which are many in small data.
"""

PRICE = 1.0
"""Nats of ELBO that one more latent per example must bring."""
MET = 0.25
"""An l0 further than this share from the one asked for was not met."""
RULE = (
    f"Best is the highest ELBO less l0: one more latent per example must bring at least {PRICE:g} nat, as Akaike's "
    "criterion asks of a parameter. Of those within the spread of seeds of the best, the one whose latents come back "
    "best is taken. An l0 that training did not come to is passed over."
)
"""How one is chosen, in words."""


class Point(NamedTuple):
    """One l0 of the path: means over the seeds, on the validation part."""

    asked: float | None  # train.target_l0; None leaves it to the data and the cap
    l0: float  # latents per example
    active: float
    used: float
    always_on: float
    elbo: float  # nats per example
    spread: float  # its standard deviation over the seeds
    returning: Returning  # which latents come back
    jobs: list[Job]

    @property
    def target(self) -> Schedule | None:
        """What to set train.target_l0 to."""
        return None if self.asked is None else Schedule(self.asked)

    @property
    def worth(self) -> float:
        """ELBO less `PRICE` nats for each latent on."""
        return self.elbo - PRICE * self.l0

    @property
    def stability(self) -> float:
        """Mean cosine of what latents do in one seed and their matches in another."""
        return self.returning.effects


class Chosen(NamedTuple):
    """What a path speaks for."""

    common: Config  # the settings that all its runs share
    data: Dataset
    points: list[Point]  # in rising order of l0
    best: Point
    reason: str  # one sentence
    folder: Path
    command: str


def choose_l0(config: Tune, folder: Path, command: str, tell: Tell = print, progress: bool = False) -> Chosen:
    """
    Train a path over train.target_l0, and write best.yaml and l0.json into `folder`; runs of earlier calls are found.

    Where no values are given, it is found first how many latents the model has on by itself, and the path laid around
    that. `tell` is given a line for each run, and `command` is what to type to go on. A wrong setting is a UsageError
    before anything is trained.
    """
    common, data, asked = _asked(config, folder)
    seeds = range(common.train.seed, common.train.seed + config.seeds)

    def jobs(target: float | None) -> list[Job]:
        label = f"l0 {target:g}" if target else "l0 left to the data"
        one = changed(common, {"train.target_l0": target})
        named = [(f"{label}, seed {seed}", changed(one, {"train.seed": seed})) for seed in seeds]
        return [plan(name, own, folder / "runs")._replace(latents=True) for name, own in named]

    train = partial(sweep, workers=config.workers, split="valid", tell=tell, progress=progress, engine=config.engine)
    if not asked:
        tell(f"first the latents that the model has on by itself, {config.seeds} runs")
        found = statistics.fmean(one.scores.active for one in train(jobs(None), command=command))
        asked = [None, *_around(found, common, data)]
        tell(f"it finds {found:.3g}; now {', '.join(f'{target:g}' for target in asked if target)}")
    planned = [jobs(target) for target in asked]
    results = iter(train([job for group in planned for job in group], command=command))
    points = [
        _point(target, group, [next(results) for _ in group]) for target, group in zip(asked, planned, strict=True)
    ]
    points.sort(key=lambda point: point.l0)
    best, reason = recommended(points)
    chosen = Chosen(common, data, points, best, reason, folder, command)
    _write(chosen)
    return chosen


def _asked(config: Tune, folder: Path) -> tuple[Config, Dataset, list[float]]:
    """Check everything that can be checked before the first step; the values are in rising order, or none."""
    at_least(2, config.seeds, "seeds")
    usual = Tune()
    for name in ("space", "trials", "metric", "pruner", "storage"):
        if getattr(config, name) != getattr(usual, name):
            raise UsageError(f"{name} is for a search, and --choose l0 has a path of its own; leave it out")
    if config.train.target_l0 is not None:
        raise UsageError("--choose l0 finds train.target_l0 itself; leave it out, or give --at")
    values = [] if config.at is None else _values(config.at)
    common, data = shared(config, folder)
    for target in values or [0.5]:  # any: whether the model takes one at all
        checked(changed(common, {"train.target_l0": target}), data)
    return common, data, values


def _values(text: str) -> list[float]:
    """Read the l0 to try."""
    found = set()
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            raise UsageError(f"at must be numbers separated by commas, and {short(part.strip())} is none") from None
        if not (value > 0 and math.isfinite(value)):
            raise UsageError(f"at must be positive numbers, not {part.strip()}")
        found.add(value)
    if len(found) < 2:
        raise UsageError(f"at needs at least two different numbers to choose between, not {text!r}")
    return sorted(found)


def _around(found: float, common: Config, data: Dataset) -> list[float]:
    """Return the l0 to try around one that the model has found; those that cannot be asked of it are left out."""
    values = []
    for share in SHARES:
        value = float(f"{share * found:.2g}")
        try:
            checked(changed(common, {"train.target_l0": value}), data)
            values.append(value)
        except UsageError:
            continue  # above J, or what the cap allows
    if not values:
        raise RunError(f"the model has {found:.3g} latents on by itself, around which there is nothing to try")
    return values


def _point(target: float | None, jobs: list[Job], results: Sequence[Results]) -> Point:
    traces = [trace for job in jobs if (trace := read_trace(job.folder, "valid")) is not None]
    scores = [one.scores for one in results]
    elbo = [float(one.elbo) for one in scores if one.elbo is not None]
    means = {
        name: statistics.fmean(getattr(one, name) for one in scores) for name in ("l0", "active", "used", "always_on")
    }
    spread = {"elbo": statistics.fmean(elbo), "spread": statistics.stdev(elbo)}
    return Point(asked=target, **means, **spread, returning=match_runs(traces), jobs=jobs)


def recommended(points: Sequence[Point]) -> tuple[Point, str]:
    """Return the point that `RULE` speaks for, and why in one sentence; RunError if training came to no l0."""
    met = [point for point in points if point.used and (point.asked is None or abs(point.l0 / point.asked - 1) <= MET)]
    if not met:
        raise RunError("training came to none of these l0; raise train.steps, or try others with --at")
    spread = statistics.median(point.spread for point in met)
    top = max(met, key=lambda point: point.worth)
    near = [point for point in met if point.worth >= top.worth - spread]
    best = max(near, key=lambda point: point.stability)
    which = "no target" if best.asked is None else f"l0 {best.asked:g}"
    lead = (
        f"no other comes within the spread of seeds ({spread:.2g} nats)"
        if len(near) == 1
        else f"of {len(near)} within the spread of seeds ({spread:.2g} nats), its latents come back best"
    )
    return best, (
        f"{which}, where l0 is {best.l0:.3g}: ELBO less l0 is {best.worth:.2f} nats, {lead}, stability "
        f"{best.stability:.2f}."
    )


COLUMNS = {
    "target l0": lambda point: "none" if point.asked is None else f"{point.asked:g}",
    "l0": lambda point: f"{point.l0:.2f}",
    "active": lambda point: f"{point.active:.2f}",
    "used": lambda point: f"{point.used:.1f}",
    "always on": lambda point: f"{point.always_on:.1f}",
    "ELBO, nats": lambda point: f"{point.elbo:.2f} ± {point.spread:.2f}",
    "ELBO - l0": lambda point: f"{point.worth:.2f}",
    "stability": lambda point: f"{point.stability:.2f}",
    "of codes": lambda point: f"{point.returning.codes:.2f}",
    "come back": lambda point: f"{point.returning.come_back} of {len(point.returning.first.latent)}",
}
"""What is told of each point, by its heading."""


def rows(chosen: Chosen) -> list[list[str]]:
    """Return the path as the cells of a table, in the order of `COLUMNS`."""
    return [[write(point) for write in COLUMNS.values()] for point in chosen.points]


def _write(chosen: Chosen) -> None:
    """Write best.yaml and l0.json."""
    write_settings(chosen.folder / "best.yaml", asdict(chosen.best.jobs[0].config))
    write_json(
        chosen.folder / "l0.json",
        {
            "command": chosen.command,
            "data": chosen.common.data.name,
            "split": "valid",
            "examples": len(chosen.data.valid),
            "recommended": chosen.best.asked,
            "reason": chosen.reason,
            "points": [_plain(point) for point in chosen.points],
            "settings": as_plain(asdict(chosen.common)),
            "environment": runs.environment(),
        },
    )


def _plain(point: Point) -> dict[str, Any]:
    found = {name: value for name, value in point._asdict().items() if name not in ("returning", "jobs")}
    return found | {"stability": point.returning.summary, "runs": [job.folder.name for job in point.jobs]}


CHOICES = {"l0": choose_l0}
"""What `vsc tune --choose` can choose -> how."""
