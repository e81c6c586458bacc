"""What a study is: the runs that it needs, and how it draws and tabulates them."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from vsc.data.split import Dataset
from vsc.measure.measured import Measured
from vsc.measure.results import Results
from vsc.model import Autoencoder
from vsc.plots.charts import Curve
from vsc.settings.config import Config
from vsc.sweep.jobs import Job
from vsc.training import runs

Settings = Mapping[str, Any]
"""Dotted settings, such as {"model.latent_dim": 60}."""

Numbers = Mapping[str, float | None]
"""Column -> value of one run; None where it has none."""


class Ask(NamedTuple):
    """What the user asked of a study."""

    data: Dataset
    full: bool = False  # the source's own settings instead of those that suit a small machine
    steps: int | None = None  # of every run, where the user gave them
    dims: tuple[int, ...] = ()  # numbers of latents J, where the user gave them
    alphas: tuple[float, ...] = ()  # prior spike probabilities, where the user gave them

    @property
    def image(self) -> bool:
        """Whether an example is drawn as pixels."""
        return len(self.data.shape) == 3 and self.data.shape[0] in (1, 3)


class Row(NamedTuple):
    """One row of a study's table: a run, or one for each seed."""

    facets: Mapping[str, str | float]  # what sets it apart, as {"model": "VAE", "J": 60}; all rows have the same keys
    settings: Settings  # how it is trained
    metrics: tuple[str, ...] = ()  # what to measure besides the scores
    seeds: int | None = None  # where it needs another number of seeds than the study

    @property
    def label(self) -> str:
        """The facets in words."""
        return ", ".join(str(v) if isinstance(v, str) else f"{k} {v:g}" for k, v in self.facets.items())


@dataclass(frozen=True)
class Group:
    """A row's runs, one for each seed, trained and measured."""

    row: Row
    jobs: list[Job]
    results: list[Results]
    found: Sequence[Numbers] = ()  # what the study itself finds of each (`described`)

    def __getitem__(self, facet: str) -> Any:
        """Return a facet's value."""
        return self.row.facets[facet]

    def values(self, name: str) -> list[float]:
        """Return a score, a metric's value, `minutes` or what was found, for each seed that has it."""
        if name == "minutes":
            return [self.history(i)[-1]["seconds"] / 60 for i in range(len(self.jobs))]
        if any(name in numbers for numbers in self.found):
            known = [numbers.get(name) for numbers in self.found]
        else:
            known = [getattr(one.scores, name, one.metrics.get(name)) for one in self.results]
        return [value for value in known if value is not None]

    def measured(self, data: Dataset, i: int = 0) -> Measured:
        """Return the test set as the model of the i-th seed sees it."""
        return Measured(self.model(i), data)

    def mean(self, name: str) -> float:
        """Return the mean over the seeds; NaN where the model has no such number."""
        return statistics.fmean(values) if (values := self.values(name)) else math.nan

    def spread(self, name: str) -> float:
        """Return the standard deviation over the seeds; 0 for a single one."""
        return statistics.stdev(values) if len(values := self.values(name)) > 1 else 0.0

    def model(self, seed: int = 0) -> Autoencoder:
        """Return one seed's model."""
        return runs.load(self.jobs[seed].folder)

    def history(self, seed: int = 0) -> list[dict[str, Any]]:
        """Return the rows of one seed's metrics.jsonl."""
        return runs.read_history(self.jobs[seed].folder)

    @property
    def config(self) -> Config:
        """The first seed's settings."""
        return self.jobs[0].config


class Table(NamedTuple):
    """Numbers as a table: names of columns, with units, and rows of text and numbers; None where there is none."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def beside(self, columns: Sequence[str], cells: Iterable[Sequence[Any]]) -> "Table":
        """Return the table with further columns, given row by row."""
        return Table((*self.columns, *columns), [(*own, *more) for own, more in zip(self.rows, cells, strict=True)])


class Picture(NamedTuple):
    """A further figure of a study, and what it shows, for those who cannot see it."""

    figure: Figure
    alt: str


class Finding(NamedTuple):
    """What came out of a study."""

    figure: Figure
    alt: str  # what it shows, for those who cannot see it; on the page the words follow
    table: Table
    words: list[str]  # sentences: what reproduces, and what does not
    more: Mapping[str, Picture] = MappingProxyType({})  # by name: they become figure-NAME.png and .svg


@dataclass(frozen=True)
class Study:
    """A named experiment of a source."""

    title: str  # what it shows, in a few words
    source: str  # where it comes from
    claim: str  # what the source says
    minutes: int  # about how long the quick form takes on two CPU cores
    rows: Callable[[Ask], list[Row]]  # the runs that it needs
    draw: Callable[[Ask, list[Group]], Finding]  # is given the groups in the order of the rows
    needs: tuple[str, ...] = ()  # what the data must have, of `conduct.NEEDS`
    data: str = "mnist"  # the data set of the source
    full_data: str | None = None  # that of the source's own settings, where it is another


def described(ask: Ask, groups: Sequence[Group], describe: Callable[[Ask, Group, int], Numbers]) -> list[Group]:
    """Return the groups with what a study finds of every run itself, given the group and the place of the seed."""
    return [replace(one, found=[describe(ask, one, i) for i in range(len(one.jobs))]) for one in groups]


def tabulate(groups: Sequence[Group], columns: Sequence[str]) -> Table:
    """
    Lay groups out as a table: facets, number of seeds, then mean and standard deviation of each column.

    Columns are scores, metrics or `minutes`, and after them whatever was found of the groups. Where several seeds were
    measured, a column `NAME sd` follows.
    """
    several = any(len(group.jobs) > 1 for group in groups)
    columns = [*columns, *dict.fromkeys(name for group in groups for numbers in group.found for name in numbers)]
    head = [*groups[0].row.facets, "seeds"]
    for name in columns:
        head += [name, f"{name} sd"] if several else [name]
    rows = []
    for group in groups:
        row: list[Any] = [*group.row.facets.values(), len(group.jobs)]
        for values in map(group.values, columns):
            row.append(statistics.fmean(values) if values else None)
            row += [statistics.stdev(values) if len(values) > 1 else None] if several else []
        rows.append(tuple(row))
    return Table(tuple(head), rows)


def parted(groups: Sequence[Group], facet: str) -> dict[Any, list[Group]]:
    """Return the groups by their value of a facet, in the order in which the values come."""
    found: dict[Any, list[Group]] = {}
    for group in groups:
        found.setdefault(group[facet], []).append(group)
    return found


def curve(groups: Sequence[Group], facet: str, quantity: str) -> Curve:
    """Return a score or metric over a facet, with its spread over the seeds."""
    y, spread = zip(*((group.mean(quantity), group.spread(quantity)) for group in groups), strict=True)
    return Curve([group[facet] for group in groups], y, spread)


def curves(groups: Sequence[Group], quantity: str) -> dict[str, Curve]:
    """Return one curve over J for each model that has the quantity."""
    found = {name: curve(own, "J", quantity) for name, own in parted(groups, "model").items()}
    return {name: one for name, one in found.items() if not all(map(math.isnan, one.y))}


def steps(ask: Ask, quick: int, full: int) -> int:
    """Return a run's steps: what the user gave, or what suits a small machine, or what the source has."""
    return ask.steps or (full if ask.full else quick)


def listed(groups: Iterable[Group], name: str, form: str) -> str:
    """Return each model's mean of a quantity: `VAE 0.25, VSC 0.31` with the form .2f."""
    return ", ".join(f"{group['model']} {group.mean(name):{form}}" for group in groups)
