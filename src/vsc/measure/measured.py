"""One split, encoded once by one model: scores, metrics, latents and effects are views of it."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vsc.data.split import Dataset, Split
from vsc.data.stored import Stored
from vsc.errors import Caution, UsageError
from vsc.measure import cautions as cautioning
from vsc.measure import effects, latents
from vsc.measure import scores as scoring
from vsc.measure.effects import Effects, Parts, Strips
from vsc.measure.latents import Extremes, Survey, Together
from vsc.measure.scores import Scores
from vsc.metrics import METRICS, Given, attributes, fvu, measurable
from vsc.metrics import measure as metric_values
from vsc.metrics.sparsity import counted
from vsc.model import Autoencoder, Codes
from vsc.model.bounds import Bound
from vsc.model.likelihoods.gaussian import Spread
from vsc.model.nets import Dictionary
from vsc.model.scaling import moments_there
from vsc.model.spikes import SPIKES
from vsc.settings.config import Config
from vsc.torchstate import modes, seeded
from vsc.training import runs
from vsc.training.diagnosis import overfitting

FITTED = 20_000
"""Training examples, spread evenly, that the model without latents is fitted to."""


P = ParamSpec("P")
R = TypeVar("R")


def _apart(compute: Callable[P, R]) -> Callable[P, R]:
    """Compute without gradients, whatever modes torch is in around it."""

    @wraps(compute)
    def apart(*args: P.args, **kwargs: P.kwargs) -> R:
        with modes(gradients=False):
            return compute(*args, **kwargs)

    return apart


def linear_directions(decoder: nn.Module, outputs: int) -> Tensor | None:
    """
    Return what each latent adds to the output of a linear `decoder`, (J, M).

    None of a decoder that is not linear, or that gives more than a mean for each of the M `outputs`.
    """
    found = decoder.weight if isinstance(decoder, Dictionary | nn.Linear) else None
    found = found.T if isinstance(decoder, nn.Linear) and found is not None else found
    return found if found is not None and found.shape[1] == outputs else None


def pick(data: Dataset, split: str, on_disk: bool = False) -> Split:
    """
    Return a `split` of the `data`: `train`, `valid` or `test`, which may stay on disk only if `on_disk` says so.

    UsageError if it is unknown or empty, or must be in memory and is not.
    """
    if split not in ("train", "valid", "test"):
        raise UsageError(f"unknown split {split!r}; one of: train, valid, test")
    chosen: Split = getattr(data, split)
    if not len(chosen):
        raise UsageError(f"the {split} split of {data.name} is empty")
    if isinstance(chosen.x, Stored) and not on_disk:
        raise UsageError(f"the {split} split of {data.name} stays on disk; take valid or test, which are in memory")
    return chosen


class Measured:
    """
    A split of a data set as a model sees it. Whatever is asked of it is computed once, when it is first asked for.

    Nothing is changed by it: not the model, its mode or its device, and not torch's random state.

    Parameters
    ----------
    model : Autoencoder
        Any of the models, or the folder of a finished run. It is measured in eval mode on the CPU: one that is in
        another state is copied.
    data : Dataset
        Its `train` split trains the probe; a table's columns are found by the names that the model knows.
    split : str
        `test`, `valid` or `train`.
    seed : int
        Seed of all noise and of the choice of training examples.

    Raises
    ------
    UsageError
        If the split is unknown or empty, or the data are not laid out as those that the model was trained on.
    """

    def __init__(self, model: Autoencoder | str | Path, data: Dataset, split: str = "test", seed: int = 0):
        model = runs.load(model) if isinstance(model, str | Path) else model
        if not isinstance(model, Autoencoder) or not isinstance(data, Dataset):
            raise UsageError(
                "first a model, or the folder of its run, and then a data set: vsc.load_data(name), or "
                "vsc.from_arrays(x, y) of your own arrays or data frames"
            )
        if tuple(data.shape) != tuple(model.shape):
            raise UsageError(
                f"the examples of {data.name} have shape {tuple(data.shape)}, and those of the run had "
                f"{tuple(model.shape)}"
            )
        self.data = data.aligned(model.columns)
        self.part, self.split, self.seed = pick(self.data, split), split, seed
        at_rest = not any(part.training for part in model.modules())
        away = any(weight.device.type != "cpu" for weight in model.parameters())
        self.model = model if at_rest and not away else copy.deepcopy(model).cpu().eval()
        self._bounds: dict[int, tuple[Bound, Bound | None]] = {}
        self._scores: dict[tuple[int, int | None], Scores] = {}

    def __len__(self) -> int:
        return len(self.part)

    def row(self, i: int) -> int:
        """Return the row of the i-th example as users count it (`counted`)."""
        return i if self.part.index is None else int(self.part.index[i]) + self.data.first

    @property
    def counted(self) -> str:
        """How rows are counted."""
        if self.part.index is None:
            return f"place in the {self.split} part, from 0"
        return "line of the file, from 1" if self.data.first else "row of the data, from 0"

    @cached_property
    @_apart
    def x(self) -> Tensor:
        """The examples as the model saw them in training, (N, M): scaled, and binarised if it was."""
        return self._inputs(self.part.x)

    @cached_property
    @_apart
    def unit(self) -> Tensor:
        """
        What differences of x are told in, (M,).

        It is 1, or, where model units differ as counts do, each column's standard deviation in the training data.
        """
        if not self.model.likelihood.own_units:
            return self.x.new_ones(self.x.shape[1])
        sd = moments_there(self._inputs(self._train))[1].float()
        return torch.where(sd > 0, sd, 1.0)

    @property
    def _train(self) -> Tensor:
        """Some training examples as stored, spread evenly."""
        train = self.data.train.x
        return train[torch.linspace(0, len(train) - 1, min(len(train), FITTED)).round().long()]

    def _inputs(self, stored: Tensor) -> Tensor:
        with seeded(self.seed):
            return self.model.inputs(stored)

    @cached_property
    @_apart
    def codes(self) -> Codes:
        """Their codes, (N, J) each."""
        return scoring.encode(self.model, self.x)

    @cached_property
    @_apart
    def learned(self) -> tuple[Codes, Tensor] | None:
        """Codes and labels of up to 5000 training examples; None where there are no labels."""
        train = self.data.train
        if train.y is None or self.part.y is None:
            return None
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(train), generator=generator)[: scoring.PROBE_LABELS]
        return scoring.encode(self.model, self._inputs(train.x[order])), train.y[order]

    @cached_property
    @_apart
    def no_latents(self) -> tuple[float, float]:
        """Log p of the best constant output that the training data give, nats per example, and its squared error."""
        likelihood, out = self.model.likelihood.without_latents(self._inputs(self._train))
        told, missing = out.double(), self.model.missing
        parts = [likelihood.log_prob(x, told.expand(len(x), -1), missing) for x in self.x.double().split(1000)]
        return torch.cat(parts).mean().item(), scoring.squared_error(likelihood.mean(out[None]), self.x, self.unit)

    @_apart
    def bounds(self, samples: int = 5) -> tuple[Bound, Bound | None]:
        """Return each example's bound, (N,), with hard spikes; and with those of training, if they were relaxed."""
        if samples < 1:
            raise UsageError(f"samples must be at least 1, not {samples}")
        if samples not in self._bounds:
            with seeded(self.seed):
                hard, relaxed = scoring.bounds(self.model, self.x, samples), None
                if getattr(self.model, "spikes", None) in {SPIKES[name] for name in scoring.RELAXED}:
                    loose = copy.copy(self.model)
                    loose.training = True  # the parts stay in eval mode
                    relaxed = scoring.bounds(loose, self.x, samples)
            self._bounds[samples] = hard, relaxed
        return self._bounds[samples]

    @_apart
    def scores(self, samples: int = 5, iwae: int | None = None, progress: bool = False) -> Scores:
        """
        Measure the split with hard spikes.

        Parameters
        ----------
        samples : int
            Draws of z per example that the bounds are averaged over.
        iwae : int, optional
            Draws K of the importance-weighted bound; by default it is not measured.
        progress : bool
            Whether to show a progress bar for it.

        Returns
        -------
        Scores
            One number each; see there for units.

        Raises
        ------
        UsageError
            If samples or iwae < 1, or an AE is asked for a bound.
        """
        if iwae is not None and iwae < 1:
            raise UsageError(f"iwae is a number of draws, at least 1, not {iwae}")
        if (samples, iwae) not in self._scores:
            self._scores[samples, iwae] = self._score(samples, iwae, progress)
        return self._scores[samples, iwae]

    def _score(self, samples: int, iwae: int | None, progress: bool) -> Scores:
        model, x, codes = self.model, self.x, self.codes
        hard, relaxed = self.bounds(samples)
        tight = None
        if iwae is not None:
            with seeded(self.seed):
                tight = scoring.importance_weighted_bound(model, x, iwae, progress).mean().item()
        unit = self.unit
        noisy = scoring.add_noise(x, self.seed, unit)
        peak, rate = scoring.value_range(x / unit), codes.active.double().mean(0)
        denoised = scoring.squared_error(scoring.reconstruct(model, scoring.encode(model, noisy)), x, unit)
        learned = self.learned
        bound = hard if model.bounded else None
        return Scores(
            elbo=bound and bound.elbo.mean().item(),
            relaxed_elbo=relaxed and relaxed.elbo.mean().item(),
            log_px=hard.log_px.mean().item(),
            kl_slab=bound and bound.kl_slab.mean().item(),
            kl_spike=bound and bound.kl_spike.mean().item(),
            kl_selection=bound and bound.kl_selection.mean().item(),
            l0=codes.gamma.sum(1).mean().item(),
            active=rate.sum().item(),
            **counted(rate.numpy())._asdict(),
            mse=scoring.squared_error(scoring.reconstruct(model, codes), x, unit),
            denoise_mse=denoised,
            denoise_psnr=scoring.psnr(denoised, peak),
            noisy_psnr=scoring.psnr(scoring.squared_error(noisy, x, unit), peak),
            probe=None if learned is None or self.part.y is None else scoring.probe(*learned, codes, self.part.y),
            iwae=tight,
            at_floor=scoring.at_floor(model, codes),
            no_latents=self.no_latents[0],
            fvu=self._fvu(),
        )

    def _fvu(self) -> float | None:
        """Return the share of the variance that is not explained, where examples are vectors with Gaussian errors."""
        model = self.model
        if not isinstance(model.likelihood, Spread) or len(model.shape) > 1 or not self.x.isfinite().all():
            return None
        return fvu(*(model.scaler.inverse(x).numpy() for x in (self.x, scoring.reconstruct(model, self.codes))))

    def far(self, samples: int = 5) -> str:
        """Say which examples are so far out that they rule the means, to follow the model's name; mostly nothing."""
        bounded, hard = self.model.bounded, self.bounds(samples)[0]
        values = hard.elbo if bounded else hard.log_px
        rows = cautioning.far_out(values)
        if not len(rows):
            return ""
        rest = torch.ones(len(values), dtype=torch.bool)
        rest[rows] = False
        named = ", ".join(str(self.row(int(i))) for i in rows[:10]) + ", ..." * (len(rows) > 10)
        without = f"{values[rest].mean():.2f} nats" if rest.any() else "nothing"
        return (
            f"is ruled by examples that lie far out: {named} (by their {self.counted}). With them its "
            f"{'ELBO' if bounded else 'log p(x|z)'} is {values.mean():.4g}, without them {without}. "
            "Look at these values, or leave them out."
        )

    def cautions(
        self,
        samples: int = 5,
        iwae: int | None = None,
        config: Config | None = None,
        history: Sequence[Mapping[str, Any]] = (),
    ) -> list[str]:
        """
        Point out what is easily misread in the scores: sentences to follow the model's name.

        `samples` and `iwae` are as for `scores`, `config` is what the model was trained with, and `history` the rows of
        its metrics.jsonl.
        """
        rows = [row for row in history if row.get("split") == "valid"]
        known = self.scores(samples, iwae), self.model.spiked, self.model.latent_dim, config
        return cautioning.cautions(*known, self.far(samples), overfitting(rows, config))

    def metrics(self, names: Sequence[str]) -> dict[str, float]:
        """
        Measure metrics of `vsc.metrics` on the codes.

        Parameters
        ----------
        names : sequence of str
            Names in `vsc.metrics.METRICS`, or of a part of one, such as `knn-1000`; `all` stands for those that the
            data allow, but the slow ones.

        Returns
        -------
        dict of str to float
            One number per name; a metric of several parts gives `name-part` for each, and `presence` a part for each
            attribute that `Dataset.groups` names.

        Raises
        ------
        UsageError
            If a metric is unknown, or needs what is not known of the data; said before anything is measured.
        """
        part, groups = self.part, self.data.groups
        known: dict[str, Any] = {} if part.factors is None else {"factors": part.factors.numpy()}
        if part.presence is not None:
            grouped = attributes(part.presence.numpy(), groups or None)
            known |= {"presence": grouped.presence, "groups": groups or grouped.groups}
        if part.y is not None and self.learned is not None:
            train, labels = self.learned
            known |= {"labels": part.y.numpy(), "train_labels": labels.numpy(), "train_z": train.z.numpy()}
        if self.data.directions is not None and "fires" in part.extras:
            known |= {"true_directions": self.data.directions.numpy(), "fires": part.extras["fires"].numpy()}
        known |= self._decoded(names)
        given = Given(*(part.numpy() for part in self.codes), seed=self.seed, **known)
        return metric_values(given, measurable(given) if list(names) == ["all"] else names)

    @_apart
    def _decoded(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return what metrics take of the decoder, as stored: directions, if it is linear, and reconstructions."""
        inverse, found = self.model.scaler.inverse, {}
        if (directions := linear_directions(self.model.decoder, self.x.shape[1])) is not None:
            found["directions"] = inverse(directions) - inverse(torch.zeros_like(directions))
        wanted = {need for name in names if name in METRICS for need in METRICS[name].needs}
        if ("output" in wanted or list(names) == ["all"]) and self.x.isfinite().all():
            found |= {"x": inverse(self.x), "output": inverse(scoring.reconstruct(self.model, self.codes))}
        return {name: tensor.numpy() for name, tensor in found.items()}

    @cached_property
    @_apart
    def survey(self) -> Survey:
        """All latents over the examples: when each is on, and its values."""
        return latents.survey(self.model, self.x, self.codes)

    @cached_property
    @_apart
    def effects(self) -> Effects:
        """What each used latent does to the output."""
        return effects.effects(self.model, self.x, self.survey, unit=self.unit)

    @cached_property
    @_apart
    def strips(self) -> Strips:
        """One example for each used latent, decoded with that latent set to several values."""
        return effects.strips(self.model, self.survey)

    @cached_property
    def extremes(self) -> Extremes:
        """The examples that each used latent is largest and smallest for."""
        return latents.extremes(self.survey)

    @cached_property
    def together(self) -> Together:
        """Which used latents go together."""
        return latents.together(self.survey)

    @cached_property
    def by_class(self) -> np.ndarray | None:
        """For which classes the used latents are on, (C, K); None without labels."""
        if (y := self.part.y) is None:
            return None
        return latents.by_class(self.survey, y.numpy(), max(len(self.data.classes), int(y.max()) + 1))

    @_apart
    def parts(self, i: int) -> Parts:
        """Return what each latent does for the i-th example."""
        return effects.contributions(self.model, self.x, self.survey, i, self.unit)


def evaluate(
    model: Autoencoder | str | Path,
    data: Dataset,
    split: str = "test",
    samples: int = 5,
    seed: int = 0,
    iwae: int | None = None,
    progress: bool = False,
) -> Scores:
    """
    Measure a trained model on one split, with hard spikes.

    Parameters
    ----------
    model : Autoencoder, str or Path
        The model, or the folder of its run. It carries all that it was trained with: scaling, binarisation, spikes.
    data : Dataset
        Its `train` split trains the probe; everything is measured on `split`.
    split : str
        `test`, `valid` or `train`.
    samples, iwae, progress
        As for `Measured.scores`.
    seed : int
        Seed of all noise and of the probe's examples.

    Returns
    -------
    Scores
        One number each; see there for units.

    Raises
    ------
    UsageError
        If the split is unknown or empty, the data do not fit the model, samples or iwae < 1, or an AE is asked for a
        bound.

    Warns
    -----
    vsc.errors.Caution
        Of numbers that are easily misread, in the words of `vsc evaluate`.
    """
    seen = Measured(model, data, split, seed)
    found = seen.scores(samples, iwae, progress)
    for said in seen.cautions(samples, iwae):
        warnings.warn(f"the model {said}", Caution, stacklevel=2)
    return found


def measure(
    model: Autoencoder | str | Path, data: Dataset, metrics: Sequence[str], split: str = "test", seed: int = 0
) -> dict[str, float]:
    """
    Measure metrics of `vsc.metrics` on the codes of a split.

    Parameters
    ----------
    model, data, split, seed
        As for `evaluate`.
    metrics : sequence of str
        As for `Measured.metrics`.

    Returns
    -------
    dict of str to float
        One number per name.

    Raises
    ------
    UsageError
        As for `Measured` and its `metrics`.
    """
    return Measured(model, data, split, seed).metrics(metrics)


def hard_elbo(model: Autoencoder, data: Dataset, most: int, seed: int = 0) -> float:
    """Return the mean ELBO of a `model` with hard spikes, nats, on at most `most` training `data`, drawn by `seed`."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:most].sort().values
    part = data.train.take(order)
    seen = Measured(model, Dataset(data.name, data.shape, part, part, part, high=data.high), "train", seed)
    return seen.bounds()[0].elbo.mean().item()
