"""What a study is: the runs that it needs, and how it draws and tabulates them."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    """
    What the user asked of a study.

    Attributes
    ----------
    data : Dataset
        The data.
    full : bool
        The source's own settings instead of those that suit a small machine.
    steps : int or None
        Steps of every run, where the user gave them.
    dims : tuple of int
        Numbers of latents J, where the user gave them.
    alphas : tuple of float
        Prior spike probabilities, where the user gave them.
    """

    data: Dataset
    full: bool = False
    steps: int | None = None
    dims: tuple[int, ...] = ()
    alphas: tuple[float, ...] = ()

    @property
    def image(self) -> bool:
        """Whether an example is drawn as pixels."""
        return len(self.data.shape) == 3 and self.data.shape[0] in (1, 3)


class Row(NamedTuple):
    """
    One row of a study's table: a run, or one for each seed.

    Attributes
    ----------
    facets : mapping of str to str or float
        What sets it apart, such as {"model": "VAE", "J": 60}; every row of a study has the same keys.
    settings : Settings
        How it is trained.
    metrics : tuple of str
        What to measure besides the scores.
    seeds : int or None
        Where it needs another number of seeds than the study.
    """

    facets: Mapping[str, str | float]
    settings: Settings
    metrics: tuple[str, ...] = ()
    seeds: int | None = None

    @property
    def label(self) -> str:
        """The facets in words."""
        return ", ".join(str(v) if isinstance(v, str) else f"{k} {v:g}" for k, v in self.facets.items())


@dataclass(frozen=True)
class Group:
    """
    A row's runs, trained and measured.

    Attributes
    ----------
    row : Row
        What was asked.
    jobs : list of Job
        One for each seed.
    results : list of Results
        Their numbers.
    """

    row: Row
    jobs: list[Job]
    results: list[Results]

    def __getitem__(self, facet: str) -> Any:
        """Return a facet's value."""
        return self.row.facets[facet]

    def values(self, name: str) -> list[float]:
        """Return a score, a metric's value or `minutes` for each seed; empty where the model has none."""
        if name == "minutes":
            return [self.history(i)[-1]["seconds"] / 60 for i in range(len(self.jobs))]
        found = [getattr(one.scores, name, one.metrics.get(name)) for one in self.results]
        return [value for value in found if value is not None]

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
    """
    What came out of a study.

    Attributes
    ----------
    figure : Figure
        The picture.
    alt : str
        What it shows, for those who cannot see it; on the page the words follow.
    table : Table
        The numbers.
    words : list of str
        Sentences: what reproduces, and what does not.
    more : mapping of str to Picture
        Further figures by name, which become figure-NAME.png and .svg.
    """

    figure: Figure
    alt: str
    table: Table
    words: list[str]
    more: Mapping[str, Picture] = MappingProxyType({})


@dataclass(frozen=True)
class Study:
    """
    A named experiment of a source.

    Attributes
    ----------
    title : str
        What it shows, in a few words.
    source : str
        Where it comes from.
    claim : str
        What the source says.
    minutes : int
        About how long the quick form takes on two CPU cores.
    rows : callable
        Ask -> the runs it needs.
    draw : callable
        (Ask, groups in the order of the rows) -> Finding.
    needs : tuple of str
        What the data must have: images, labels, attributes (factors that can be absent), features.
    data : str
        The data set of the source.
    full_data : str or None
        That of the source's own settings, where it is another.
    """

    title: str
    source: str
    claim: str
    minutes: int
    rows: Callable[[Ask], list[Row]]
    draw: Callable[[Ask, list[Group]], Finding]
    needs: tuple[str, ...] = ()
    data: str = "mnist"
    full_data: str | None = None


def tabulate(groups: Sequence[Group], columns: Sequence[str], found: Sequence[Sequence[Numbers]] = ()) -> Table:
    """
    Lay groups out as a table: facets, number of seeds, then mean and standard deviation of each column.

    Columns are scores, metrics or `minutes`, and whatever a study `found` itself, for each group and each of its seeds.
    Where several seeds were measured, a column `NAME sd` follows.
    """
    several = any(len(group.jobs) > 1 for group in groups)
    more = list(dict.fromkeys(name for one in found for numbers in one for name in numbers))
    head = [*groups[0].row.facets, "seeds"]
    for name in (*columns, *more):
        head += [name, f"{name} sd"] if several else [name]
    rows = []
    for group, own in zip(groups, found or [()] * len(groups), strict=True):
        measured = [group.values(column) for column in columns]
        measured += [[v for numbers in own if (v := numbers.get(name)) is not None] for name in more]
        row: list[Any] = [*group.row.facets.values(), len(group.jobs)]
        for values in measured:
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
