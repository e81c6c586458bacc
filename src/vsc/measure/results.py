"""results.json: the numbers of a run folder, measured once and found again while model and question are the same."""

import contextlib
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vsc.data.split import Dataset
from vsc.files import read_json, write_json
from vsc.measure.measured import Measured, pick
from vsc.measure.scores import Scores
from vsc.metrics import metric_of
from vsc.torchstate import cpu_threads
from vsc.training import runs


class Results(NamedTuple):
    """
    What was measured of a run, and how.

    Attributes
    ----------
    split : str
        Part of the data.
    examples : int
        Its size.
    samples : int
        Draws of z per example that the bounds are averaged over.
    seed : int
        Seed of these draws, of the noise and of the probe's examples.
    likelihood : str
        With the settings that its nats depend on.
    weights : str
        SHA-256 of the model that was measured.
    scores : Scores
        See there for units.
    metrics : dict of str to float
        Metrics of `vsc.metrics` on the codes; empty where none were asked for.
    cautions : list of str
        What is easily misread in the scores: sentences to follow the model's name.
    iwae_draws : int or None
        K of `scores.iwae`.
    """

    split: str
    examples: int
    samples: int
    seed: int
    likelihood: str
    weights: str
    scores: Scores
    metrics: dict[str, float]
    cautions: list[str]
    iwae_draws: int | None = None


def measured(
    folder: Path,
    data: Dataset,
    split: str = "test",
    metrics: Sequence[str] = (),
    samples: int = 5,
    seed: int = 0,
    iwae: int | None = None,
    progress: bool = False,
    again: bool = True,
    seen: Measured | None = None,
) -> Results:
    """
    Measure a finished run with hard spikes and write its results.json, or results-refined.json of a model that refines.

    Parameters
    ----------
    folder : Path
        The run folder.
    data : Dataset
        Its data.
    split : str
        `valid` or `test`.
    metrics : sequence of str
        Names in `vsc.metrics.METRICS`, or `all`.
    samples, seed, iwae, progress
        As for `vsc.evaluate`.
    again : bool
        Measure even what results.json already has for the same weights and question. Without it, metrics that are
        not there yet are added to those that are.
    seen : Measured, optional
        The run's model on this split and seed, where it is at hand: nothing is encoded twice.

    Returns
    -------
    Results
        As written.

    Raises
    ------
    UsageError
        If there is no finished run, a metric is unknown or needs what is not known of the data.
    RunError
        If the model's files are damaged.
    """
    path = place(folder, seen)
    examples = len(pick(data, split))
    asked = (split, examples, samples, seed, weights(folder))
    known = None if again else read(path)
    if known is not None and (known.split, known.examples, known.samples, known.seed, known.weights) != asked:
        known = None
    there = {} if known is None else known.metrics
    measured_before = {metric_of(part) for part in there}
    metrics = [name for name in metrics if name not in measured_before]
    if known is not None and not metrics and iwae in (None, known.iwae_draws):
        return known
    config = runs.read_config(folder)
    seen = Measured(folder, data, split, seed) if seen is None else seen
    with cpu_threads(seen.model):
        values = there | (seen.metrics(metrics) if metrics else {})  # first, since a name may be wrong
        if known is not None and iwae in (None, known.iwae_draws):
            scores, iwae, said = known.scores, known.iwae_draws, known.cautions
        else:
            scores = seen.scores(samples, iwae, progress)
            said = seen.cautions(samples, iwae, config, runs.read_history(folder))
    found = Results(
        split=split,
        examples=examples,
        samples=samples,
        seed=seed,
        likelihood=seen.model.likelihood.label,
        weights=weights(folder),
        scores=scores,
        metrics=values,
        cautions=said,
        iwae_draws=iwae,
    )
    plain = found._asdict() | {"scores": finite(scores), "not_finite": not_finite(scores)}
    write_json(path, plain | {"checksum": _checksum(plain)})
    return found


def place(folder: Path, seen: Measured | None) -> Path:
    """Return where results are written: those of refined codes beside those that other commands read."""
    return folder / ("results-refined.json" if seen and seen.model.sweeps else "results.json")


def finite(scores: Scores) -> dict[str, float | None]:
    """Return scores for a JSON file, which knows no infinity: None where one is not finite."""
    return {name: value if value is None or math.isfinite(value) else None for name, value in scores._asdict().items()}


def not_finite(scores: Scores) -> dict[str, str]:
    """Return the scores that are not finite, as text."""
    return {name: str(v) for name, v in scores._asdict().items() if v is not None and not math.isfinite(v)}


def weights(folder: Path) -> str:
    """Return the SHA-256 of a run's model."""
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def _checksum(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def read(path: Path) -> Results | None:
    """Return what the file says; None if there is none, or if it is damaged or was changed by hand."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        plain = read_json(path)
        if plain.pop("checksum") == _checksum(plain):
            infinite = {name: float(text) for name, text in plain.pop("not_finite").items()}
            return Results(**plain | {"scores": Scores(**plain["scores"] | infinite)})
    return None
