"""Every setting of a run, once: the command line, YAML files and saved runs are derived from these dataclasses."""

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from vsc.errors import UsageError, at_least, short
from vsc.settings.schedule import Schedule

Kind = Literal[
    "ae",
    "vae",
    "tcvae",
    "laplace",
    "vsc",
    "thresholded-laplace",
    "thresholded-normal",
    "topk",
    "batch-topk",
    "matryoshka",
    "jumprelu",
    "gated",
    "vaease",
]
Scale = Literal["auto", "unit-interval", "unit-norm", "standard", "whole", "none"]
Net = Literal["mlp", "conv", "conv1d", "linear", "lista"]
LikelihoodName = Literal[
    "auto",
    "bernoulli",
    "continuous-bernoulli",
    "gaussian",
    "gaussian-shared",
    "gaussian-fixed",
    "laplace",
    "poisson",
    "negative-binomial",
    "columns",
]
GatesName = Literal["auto", "fixed", "learned", "mixture", "pseudo-inputs"]
SlabName = Literal["auto", "unit", "learned", "own"]
SelectorName = Literal["optimal", "softmax", "paper", "released"]
SpikesName = Literal["sigmoid", "concrete", "straight-through", "mean", "disarm", "rloo", "exact", "analytic"]
HeadName = Literal["logit", "log-relu"]


@dataclass(frozen=True)
class _Named:
    """What takes settings by their names: of a wrong one it is said where it lives."""

    def __new__(cls, *_: Any, **given: Any):
        for name in given.keys() - {one.name for one in fields(cls)}:  # pyright: ignore[reportArgumentType]
            raise UsageError(_elsewhere(cls.__name__, name))
        return super().__new__(cls)


@dataclass(frozen=True)
class DataConfig(_Named):
    """Which data, and how they reach the model."""

    name: str = "digits"
    """A data set's name, or the path of a table (.csv, .parquet ...), of a .npy, .npz or IDX file, or of a folder of
    .npy files or of pictures, whose sub-folders are classes."""
    root: str | None = None
    """Folder of downloaded data and converted pictures; by default the environment's VSC_DATA, else a cache folder of
    the user's."""
    scale: Scale = "auto"
    """How stored values are scaled; auto is unit-interval where the values' range is known, else standard. whole is one
    factor for all columns, for activations."""
    binarise: bool = False
    """Draw every grey value anew as a bit in each batch (dynamic binarisation), for likelihood comparisons."""
    valid_fraction: float = 0.1
    """Share of the training set kept for validation."""
    seed: int = 0
    """Seed of that split, apart from train.seed so that runs of several seeds share one split."""
    label: str | None = None
    """A table's column of classes, none if it has none; by default that named label, class, target or y, unless it is
    continuous."""
    drop: str | None = None
    """Columns of a table to leave out, separated by commas."""
    columns: str | None = None
    """What columns of a table are, where vsc data shows something else than is meant, separated by commas: NAME=KIND or
    PATTERN*=KIND; gaussian, bernoulli, categorical, poisson or negative-binomial."""
    size: int | str | None = None
    """What the pictures of a folder are brought to, in pixels: 64, or 64x48 (width x height), cut to that shape around
    their centre; by default their own size, if they have the same."""

    def __post_init__(self):
        _take_plain(self)


@dataclass(frozen=True)
class ModelConfig(_Named):
    """The model."""

    name: Kind = "vsc"
    """Kind of model."""
    latent_dim: int = 32
    """Number of latents J."""
    net: Net = "mlp"
    """Encoder and decoder."""
    hidden: tuple[int, ...] = (400,)
    """Widths of the encoder's hidden layers, mirrored in the decoder (net mlp)."""
    refinements: int = 2
    """How often the encoder corrects its code by what the dictionary leaves of x (net lista)."""
    likelihood: LikelihoodName = "auto"
    """p(x|z); auto is, for values in [0, 1], bernoulli where most are near 0 or 1 and gaussian-shared for shades of
    grey (gaussian-fixed for the digits); columns, each column's own, for tables with columns that are no measurements;
    and for others gaussian, or gaussian-shared with fewer than 300 training examples, with data.scale whole, or where a
    quarter of the columns have two values. For counts: negative-binomial or poisson."""
    variance: float | None = None
    """Variance of the likelihood gaussian-fixed; None is 1, or 0.02 for the digits."""
    variance_floor: float = 1e-6
    """Least variance of the likelihoods gaussian, gaussian-shared, laplace and columns; part of every result with
    them."""
    gates: GatesName = "auto"
    """The gates of p(z) (VSC): one alpha, fixed; an alpha learned for each latent; or a mixture of patterns that each
    example chooses from, of parameters or, as in UAI, of pseudo-inputs that the encoder reads. auto is pseudo-inputs,
    or mixture for fewer than 1000 training examples, which an encoder learns by heart."""
    slab: SlabName = "auto"
    """The slab of p(z) (VSC): unit, N(0, 1); learned, N(m_j, t_j^2) for each latent; own, each component's. auto is own
    with the gates mixture and pseudo-inputs, else unit."""
    slab_mean: float = 0.0
    """Where the means of the slab learned start: away from zero, being off can say by itself that something is
    absent."""
    alpha: float = 0.1
    """Prior spike probability in (0, 1] of the gates fixed, at the start of learned ones, and what train.penalty holds
    the others to. Smaller is sparser."""
    components: int | None = None
    """Components U of the gates mixture and pseudo-inputs; None is 100, or a tenth of the training examples where that
    is fewer."""
    selector: SelectorName = "optimal"
    """How an example chooses among them; the choice is always charged."""
    nu: float | None = None
    """Sharpen the gates of the pseudo-inputs to S(nu (gamma - 1/2)); the released code has 10. None leaves them."""
    spikes: SpikesName = "straight-through"
    """Spike estimator: how gradient passes the gates (VSC); analytic, without noise, is for the nets linear and lista
    with the likelihoods gaussian-shared and gaussian-fixed."""
    head: HeadName = "logit"
    """How encoder outputs become spike logits (VSC); log-relu is ICLR's."""
    gate_init: float = 0.0
    """Spike logit at the start of training, also that of the gates mixture (VSC); 0 is a gate open half of the time."""

    def __post_init__(self):
        _take_plain(self)


def as_plain(value: Any) -> Any:
    """Turn tuples into lists and schedules into numbers or text, all the way down, as YAML and JSON have them."""
    if isinstance(value, Schedule):
        return value.plain
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    return [as_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _take_plain(config: Any) -> None:
    """Make Python's own numbers of NumPy's, and tuples of lists, and refuse what is of another type."""
    part = type(config).__name__.removesuffix("Config").lower()
    for name, kinds in kinds_of(type(config)).items():
        value = getattr(config, name)
        value = tuple(map(_own, value)) if isinstance(value, list | tuple) else _own(value)
        if isinstance(value, os.PathLike) and str in kinds:
            value = os.fspath(value)
        fits = type(value) in kinds or (float in kinds and type(value) is int) or Schedule in kinds
        if not fits or (isinstance(value, tuple) and not all(type(item) is int for item in value)):
            words = " or ".join(KINDS[kind] for kind in kinds)
            raise UsageError(
                f"{part}.{name} must be {words}, not {short(value) if isinstance(value, str) else value}"[:200]
            )
        object.__setattr__(config, name, value)


KINDS = {int: "a whole number", float: "a number", bool: "true or false", type(None): "null", str: "text"}
KINDS |= {tuple: "a list of whole numbers such as [400,200]"}


@cache
def kinds_of(config: type) -> dict[str, tuple[type, ...]]:
    """Return the types that each setting can have; a choice is text."""
    hints = get_type_hints(config).items()
    parts = {name: get_args(hint) if isinstance(hint, UnionType) else (hint,) for name, hint in hints}
    origin = {Literal: str, tuple: tuple}
    return {name: tuple(origin.get(get_origin(one), one) for one in found) for name, found in parts.items()}


def _own(value: Any) -> Any:
    """Return a NumPy or torch scalar as a number of Python's, and anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def check_seed(name: str, seed: int) -> None:
    """Refuse a seed that torch's generators do not take; `name` is the setting's."""
    if not 0 <= seed < 2**31:  # torch's CPU generator heeds 32 bits only
        raise UsageError(f"{name} must be at least 0 and below 2^31, not {seed}")


class Knobs(NamedTuple):
    """What the schedules say at one step; `target_l0` is 0 where there is none."""

    lam: float
    beta: float
    total_correlation: float
    penalty: float
    relaxation: float
    lr: float
    target_l0: float


@dataclass(frozen=True)
class TrainConfig(_Named):
    """
    The optimisation.

    A field that is a `Schedule` takes a number, or text such as "0 -> 1 at 0.2 over 0.1".
    """

    steps: int | None = None
    """Optimiser steps; None is 2000, or 10000 for more than 10000 training examples."""
    batch_size: int = 128
    """Examples per step, over all processes together."""
    lr: Schedule = Schedule.parse("2e-3 -> 4e-5 at 0.5 over 0.5")
    """Adam's learning rate."""
    beta: Schedule | None = None
    """Weight of the KL in the loss. None is 1, risen to over the first tenth of the steps in models with gates, which
    would shut before they are worth their price, and with likelihoods whose variances are learned. With a VAE, other
    than 1 makes it a beta-VAE."""
    total_correlation: Schedule = Schedule(0.0)
    """Weight in the loss, never in a bound, of the total correlation: of the slabs (VSC), or of the code (tcvae, which
    is then a beta-TCVAE of beta = 1 + this)."""
    penalty: Schedule = Schedule(0.0)
    """Weight in the loss, never in a bound, of J KL(mean gamma of the components || alpha), with the priors
    pseudo-inputs and mixture (UAI); of the number of active latents (jumprelu), or of the L1 norm of what opens them
    (gated)."""
    cap: float | None = None
    """Largest share of the data that a latent may be on for: one that is on more often comes to cost more in the loss,
    never in a bound, until it is not. This makes a code sparse without naming an l0. None is 0.4, or 2 / sqrt(J) for
    fewer than 25 latents, and none (1) with the gates fixed, whose alpha asks already."""
    target_l0: Schedule | None = None
    """l0 to end with, the sum of the spike probabilities: a price per active latent in the loss, never in a bound, is
    adapted until l0 is there, and the alpha of fixed gates is set to target_l0 / J. A number such as 6 is come to from
    above, as "24 -> 6 at 0.1 over 0.3", but where training may stop early (train.patience) or the prior asks for few
    latents itself, as the gates fixed do. On the way from one value to the next it falls by the same share at each
    step, and before the last one is reached the price is not negative. None leaves l0 to the data and the cap, but for
    a limit of 2 sqrt(J). The models topk (a whole number), batch-topk and matryoshka (in the mean) keep so many,
    jumprelu and gated are held there, and None is a tenth of the latents for them all, but where train.penalty is
    given."""
    clip: float | None = None
    """Largest norm of the gradient; None is 10 with likelihoods whose variances are learned, which can run away, and
    does not clip otherwise."""
    lam: Schedule = Schedule(1.0)
    """Lambda: how much the slab is the encoder's own (VSC); "0 -> 1 at 0.2 over 0.1" holds it at N(0, 1) at first."""
    relaxation: Schedule | None = None
    """T of the spike estimators straight-through and concrete, or c of sigmoid. None is what the estimator takes:
    0.7 -> 0.3 or 50 -> 200."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    patience: int | None = None
    """Stop after this many validations without a better ELBO and keep the best; 0 trains to the end. None is 3 for
    tables of up to 2000 training examples, which are soon learned by heart, and 10, half of all, for more of them with
    likelihoods whose variances are learned, unless l0 is to fall on the way; else 0."""
    log_every: int = 50
    """Steps between lines of metrics.jsonl."""
    valid_every: int | None = None
    """Steps between validations; None is a twentieth of the steps."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    devices: int = 1
    """Processes or accelerators on this machine; torchrun's own number wins."""
    nodes: int = 1
    """Machines, for SLURM; torchrun's own number wins."""
    precision: str = "32-true"
    """lightning-fabric's precision: 32-true, bf16-mixed, 16-mixed or 64-true."""
    compile: bool = False
    """Let torch.compile join the model's operations on a GPU: the same numbers but for rounding. Elsewhere it does
    nothing."""

    def __post_init__(self):
        _take_plain(self)
        for name in SCHEDULES:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _schedule(name, getattr(self, name)))
        for name in ("steps", "batch_size", "log_every", "valid_every", "checkpoint_every", "devices", "nodes"):
            if getattr(self, name) is not None:
                at_least(1, getattr(self, name), f"train.{name}")
        for name in ("clip", "cap"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"train.{name} must be a positive number, not {value}")
        check_seed("train.seed", self.seed)
        if self.cap is not None and self.cap > 1:
            raise UsageError(f"train.cap is a share of the data, above 0 and at most 1, not {self.cap:g}")
        if self.patience is not None and self.patience < 0:
            raise UsageError(f"train.patience must be at least 1, or 0 to train to the end, not {self.patience}")

    def knobs(self, step: int) -> Knobs:
        """Return the schedules' values at a step, of resolved settings; what has no meaning for the model is 1."""
        assert self.steps is not None, "settings are resolved first"
        idle = dict.fromkeys(Knobs._fields, 1.0) | {"target_l0": 0.0}
        values = {name: getattr(self, name) for name in Knobs._fields}
        return Knobs(
            **{
                name: idle[name] if value is None else value.at(step, self.steps, geometric=name == "target_l0")
                for name, value in values.items()
            }
        )


def _schedule(name: str, value: Any) -> Schedule:
    """Read the schedule of a setting, and check its values."""
    low, high, what = SCHEDULES[name]
    try:
        schedule = Schedule.parse(value)
    except UsageError as error:
        raise UsageError(f"train.{name}: {error}") from None
    if not all(low <= v <= high for v in schedule.values):
        raise UsageError(f"train.{name} must be {what}, not {schedule}")
    return schedule


NOT_NEGATIVE = (0.0, math.inf, "a number that is not negative")
POSITIVE = (sys.float_info.min, math.inf, "a positive number")

SCHEDULES = {
    "lr": POSITIVE,
    "beta": NOT_NEGATIVE,
    "total_correlation": NOT_NEGATIVE,
    "penalty": NOT_NEGATIVE,
    "target_l0": POSITIVE,
    "lam": (0.0, 1.0, "in [0, 1]"),
    "relaxation": POSITIVE,
}
"""Settings of training that are schedules -> least and largest value, and that in words."""


@dataclass(frozen=True)
class Config(_Named):
    """One training run."""

    data: DataConfig = field(default_factory=DataConfig)
    """Which data, and how they reach the model."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The optimisation."""


def _elsewhere(asked: str, name: str) -> str:
    """Say of a name that `vsc.{asked}` does not take where it lives, or which is near."""
    homes = {one.name: (part, kind) for part, kind in get_type_hints(Config).items() for one in fields(kind)}
    if not (near := get_close_matches(name, homes, n=1)):
        return f"vsc.{asked} takes no {short(name)}; settings are those of vsc.DataConfig, ModelConfig and TrainConfig"
    part, kind = homes[near[0]]
    return f"vsc.{asked} takes no {name}; type vsc.Config({part}=vsc.{kind.__name__}({near[0]}=...))"
