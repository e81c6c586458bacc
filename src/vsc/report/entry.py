"""What a page is told of one model."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vsc.measure.detectors import Detected
from vsc.measure.frontier import Frontier
from vsc.measure.measured import Measured
from vsc.measure.returning import Returning
from vsc.measure.scores import Scores
from vsc.measure.showcase import Showcase


@dataclass(frozen=True)
class Entry:
    """One trained model on a page: what every seed scored, and what else is known of the first."""

    name: str  # short name, as on the command line
    title: str  # the name that readers see; if two on a page share it, the short name is added
    latent_dim: int  # J
    spiked: bool  # whether it has spikes
    scores: Sequence[Scores]  # of each seed, on the held-out split, with hard spikes
    settings: Mapping[str, Any]  # the nested configuration of the first seed
    likelihood: str = ""  # its name, with every setting that its nats depend on
    parameters: int = 0  # number of trained parameters
    seconds: Sequence[float] = ()  # training time of each seed, seconds
    cautions: Sequence[str] = ()  # what is easily misread in its scores: sentences to follow its name
    link: str = ""  # where, relative to the page, the page of the first run lies; empty where there is none
    returning: Returning | None = None  # which of its latents come back in the other seeds; None for a single one
    # of the first seed: rows with "step", "split" and, where the model has them, "elbo", "l0" and "used"
    history: Sequence[Mapping[str, Any]] = ()
    seen: Measured | None = None  # the held-out split as it sees it; without it, a page does not open with its pictures
    showcase: Showcase | None = None  # the arrays behind the other pictures, which every comparison shows
    frontier: Frontier | None = None  # what its code is worth cut to few elements
    detected: Detected | None = None  # what its latents detect

    @cached_property
    def mean(self) -> Scores:
        """Mean over the seeds; of a single one, whose counts are whole numbers, its own."""
        return self.scores[0] if len(self.scores) == 1 else _over(statistics.fmean, self.scores)

    @cached_property
    def spread(self) -> Scores | None:
        """Standard deviation over the seeds; None for a single one."""
        return _over(statistics.stdev, self.scores) if len(self.scores) > 1 else None


def _over(statistic: Callable[[Sequence[float]], float], scores: Sequence[Scores]) -> Scores:
    """Apply a statistic to every score over the seeds; None where a model has no such score."""
    columns: list[Any] = [[getattr(one, name) for one in scores] for name in Scores._fields]
    return Scores._make(None if None in column else statistic(column) for column in columns)
