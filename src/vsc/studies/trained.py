"""One model of a comparison: its runs, and what was measured of them."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsc.measure.detectors import Detected
from vsc.measure.frontier import Frontier
from vsc.measure.measured import Measured
from vsc.measure.results import Results
from vsc.measure.returning import Returning
from vsc.measure.scores import Scores
from vsc.report.lead import Contender
from vsc.settings.config import Config
from vsc.sweep.jobs import Job
from vsc.training import runs


@dataclass(frozen=True)
class Trained:
    """
    One model of a comparison, trained and measured on every seed.

    What is read of a model is read of the `first`, so its `frontier` and what it has `detected`.
    """

    name: str
    title: str
    jobs: list[Job]
    results: list[Results]
    first: Measured
    returning: Returning | None = None  # which latents come back; None for a single seed
    frontier: Frontier | None = None
    detected: Detected | None = None

    @property
    def config(self) -> Config:
        """The settings, with the first seed."""
        return self.jobs[0].config

    @property
    def folder(self) -> Path:
        """The first run's folder."""
        return self.jobs[0].folder

    @property
    def scores(self) -> list[Scores]:
        """The scores of every seed."""
        return [one.scores for one in self.results]

    @property
    def seconds(self) -> list[float]:
        """How long each was trained."""
        return [runs.read_history(job.folder)[-1]["seconds"] for job in self.jobs]

    @property
    def parameters(self) -> int:
        """How many numbers a model has learned."""
        return sum(p.numel() for p in self.first.model.parameters())

    @property
    def contender(self) -> Contender:
        """What a comparison at equal non-zeros is told of it."""
        J = self.config.model.latent_dim
        return Contender(self.title, J, self.mean, self.spread, self.frontier, self.detected)

    @property
    def cautions(self) -> list[str]:
        """What is easily misread in them."""
        told = {said: i for i, one in reversed(list(enumerate(self.results))) for said in one.cautions}
        several = len(self.results) > 1
        return [f"(seed {self.config.train.seed + i}) {said}" if several else said for said, i in told.items()]

    @property
    def likelihood(self) -> str:
        """The likelihood's name, with every setting that its nats depend on."""
        return self.results[0].likelihood

    @property
    def mean(self) -> Scores:
        """Mean over the seeds."""
        return _over(statistics.fmean, self.scores)

    @property
    def spread(self) -> Scores | None:
        """Standard deviation over the seeds; None for a single one."""
        return _over(statistics.stdev, self.scores) if len(self.scores) > 1 else None


def _over(statistic: Callable[[Sequence[float]], float], scores: Sequence[Scores]) -> Scores:
    """Apply a statistic to every score over the seeds; None where a model has no such score."""
    columns: list[Any] = [[getattr(one, name) for one in scores] for name in Scores._fields]
    return Scores._make(None if None in column else statistic(column) for column in columns)
