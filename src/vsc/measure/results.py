"""results.json: the numbers of a run folder, measured once and found again while model and question are the same."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vsc.data.split import Dataset
from vsc.files import write_json
from vsc.measure.scores import Scores, evaluate, measure, pick
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
) -> Results:
    """
    Measure a finished run with hard spikes and write its results.json.

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
    path = folder / "results.json"
    examples = len(pick(data, split))
    asked = (split, examples, samples, seed, _weights(folder))
    known = None if again else _read(path)
    if known is not None and (known.split, known.examples, known.samples, known.seed, known.weights) != asked:
        known = None
    there = {} if known is None else known.metrics
    measured_before = {metric_of(part) for part in there}
    metrics = [name for name in metrics if name not in measured_before]
    if known is not None and not metrics and iwae in (None, known.iwae_draws):
        return known
    config, model = runs.read_config(folder), runs.load(folder)
    with cpu_threads(model):
        values = dict(there)
        if metrics:  # first, since a name may be wrong
            codes = runs.encoded(folder, model, pick(data, split).x, split)
            values |= measure(model, data, metrics, split, seed, codes)
        if known is not None and iwae in (None, known.iwae_draws):
            scores, iwae = known.scores, known.iwae_draws
        else:
            scores = evaluate(model, data, config, split, samples, seed, iwae, progress)
    found = Results(
        split=split,
        examples=examples,
        samples=samples,
        seed=seed,
        likelihood=model.likelihood.label,
        weights=_weights(folder),
        scores=scores,
        metrics=values,
        iwae_draws=iwae,
    )
    plain = found._asdict() | {"scores": scores._asdict()}
    write_json(path, plain | {"checksum": _checksum(plain)})
    return found


def _weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def _checksum(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> Results | None:
    """Return what the file says; None if there is none, or if it is damaged or was changed by hand."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain.pop("checksum") == _checksum(plain):
            return Results(**plain | {"scores": Scores(**plain["scores"])})
    return None
