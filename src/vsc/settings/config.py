"""Every setting, once: the command line, YAML files and saved runs are derived from these dataclasses."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from vsc.errors import UsageError
from vsc.settings.schedule import ramp


@dataclass(frozen=True)
class DataConfig:
    """Which data, and how they reach the model."""

    name: str = "digits"
    """A data set's name, or the path of a .npy, .npz, .csv, .bin or .raw file or of a folder of .npy files."""
    root: str | None = None
    """Folder of downloaded data; by default the environment's VSC_DATA, else a cache folder of the user's."""
    scale: str = "auto"
    """How stored values are scaled; auto is unit-interval where the values' range is known, else standard."""
    binarise: bool = False
    """Draw every grey value anew as a bit in each batch (dynamic binarisation), for likelihood comparisons."""
    valid_fraction: float = 0.1
    """Share of the training set kept for validation."""
    seed: int = 0
    """Seed of that split, apart from train.seed so that runs of several seeds share one split."""


@dataclass(frozen=True)
class ModelConfig:
    """The model."""

    name: str = "vsc"
    """Kind of model."""
    latent_dim: int = 32
    """Number of latents J."""
    net: str = "mlp"
    """Encoder and decoder."""
    hidden: tuple[int, ...] = (400,)
    """Widths of the encoder's hidden layers, mirrored in the decoder (net mlp)."""
    likelihood: str = "auto"
    """p(x|z); auto is bernoulli for values in [0, 1], else gaussian."""
    variance: float = 1.0
    """Variance of the likelihood gaussian-fixed."""
    variance_floor: float = 1e-6
    """Least variance of the likelihoods gaussian, gaussian-shared and laplace; part of every result with them."""
    alpha: float = 0.1
    """Prior spike probability in (0, 1]: the share of latents expected on. Smaller is sparser (VSC)."""
    prior: str = "spike-slab"
    """p(z): alpha fixed, alpha learned for each latent, or a mixture that each example chooses from (VSC)."""
    components: int | None = None
    """Components U of the priors pseudo-inputs and mixture; None is 100, or as many as there are training examples."""
    selector: str = "optimal"
    """How an example chooses among them; the choice is always charged."""
    unit_slab: bool = False
    """Give all these components the slab N(0, 1), so that they differ in their gates only."""
    nu: float | None = None
    """Sharpen the gates of the pseudo-inputs to S(nu (gamma - 1/2)); the released code has 10. None leaves them."""
    spikes: str = "straight-through"
    """Spike estimator: how gradient passes the gates (VSC)."""
    head: str = "logit"
    """How encoder outputs become spike logits (VSC); log-relu is ICLR's."""
    gate_init: float = 0.0
    """Spike logit at the start of training, also that of the prior mixture (VSC); 0 is a gate open half of the time."""
    off_value: float = 0.0
    """What the decoder is given for a latent that is off, at the start: learned from there for each latent, so that
    being off can say something by itself (VSC). 0 gives it the zero of the code, always, as in the papers."""


def as_plain(value: Any) -> Any:
    """Turn tuples into lists, all the way down, as YAML and JSON have them."""
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    return [as_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _check_seed(name: str, seed: int) -> None:
    if not 0 <= seed < 2**31:  # torch's CPU generator heeds 32 bits only
        raise UsageError(f"{name} must be at least 0 and below 2^31, not {seed}")


class Knobs(NamedTuple):
    """What the schedules say at one step: lambda, weights in the loss, relaxation (T or c), learning rate."""

    lam: float
    beta: float
    slab_beta: float
    spike_beta: float
    total_correlation: float
    penalty: float
    price: float
    relaxation: float
    lr: float


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation; schedules are given as shares of the steps, so that they keep their shape."""

    steps: int | None = None
    """Optimiser steps; None is 2000, or 10000 for more than 10000 training examples."""
    batch_size: int = 128
    """Examples per step, over all processes together."""
    lr: float = 1e-3
    """Adam's learning rate."""
    lr_first: float | None = None
    """Learning rate at first; None is lr."""
    lr_hold: float = 0.0
    """Share of the steps for which it is lr_first."""
    lr_final: float | None = None
    """Learning rate at the end; None keeps lr."""
    lr_drop: float = 0.5
    """Share of the steps before the learning rate goes to lr_final."""
    lr_ramp: float = 0.0
    """Share of the steps, after these, over which it does so, linearly; 0 is at once."""
    prior_lr: float = 1.0
    """Learning rate of the prior's own weights, in multiples of lr; logits of the prior mixture have far to go."""
    beta: float = 1.0
    """Weight of the KL in the loss; other than 1 makes a VAE a beta-VAE."""
    slab_beta: float = 1.0
    """Weight of kl_slab in the loss at the start, on top of beta, which falls to 1 over spike_hold: above 1, what gates
    can say is found by gates."""
    spike_beta: float = 1.0
    """Weight of kl_spike in the loss at the end, on top of beta: above 1, gates keep closer to what the prior, or the
    component that an example has chosen, expects of them, and leave the rest to the slabs."""
    spike_hold: float = 0.0
    """Share of the steps for which that weight is 1."""
    spike_ramp: float = 0.0
    """Share of the steps, after these, over which it rises to spike_beta."""
    total_correlation: float = 0.0
    """Weight in the loss, never in a bound, of the total correlation of the slabs (VSC), which rises from 0 over
    spike_hold."""
    kl_warmup: float | None = None
    """Share of the steps over which the KL's weight rises from 0 to beta; None is 0.1 for models with gates, which
    would shut before they are worth their price, and for likelihoods with learned variances, else 0."""
    penalty: float = 0.0
    """Weight of the model's penalty in the loss, never in a bound: J KL(mean gamma of the components || alpha) with
    the priors pseudo-inputs and mixture (UAI); the total correlation with tcvae, whose beta is then 1 + penalty."""
    price: float = 0.0
    """Nats that each active latent costs in the loss, never in a bound, on top of what the prior charges."""
    price_start: float = 0.0
    """That price during penalty_hold; below 0 it is a reward, so that no gate shuts before its slab has learned."""
    penalty_hold: float = 0.0
    """Share of the steps before the penalty, and the price or the one that target_l0 asks, set in."""
    penalty_ramp: float = 0.0
    """Share of the steps, after these, over which they rise, or the l0 asked falls from J to target_l0."""
    target_l0: float | None = None
    """l0 to end with, the sum of the spike probabilities: alpha is set to target_l0 / J, and a price per active latent
    in the loss, never in a bound, is adapted until l0 is there. Unused latents idle near alpha and count. None is
    alpha J with the priors pseudo-inputs and mixture, which do not ask for sparsity themselves, unless there is a
    penalty; 0 is no target."""
    clip: float | None = None
    """Largest norm of the gradient; None does not clip."""
    lam_hold: float = 0.0
    """Share of the steps with lambda = 0, the slab held at N(0, 1) (VSC with warm-up)."""
    lam_ramp: float = 0.0
    """Share of the steps, after these, over which lambda rises to 1."""
    temperature: float = 0.7
    """T at the start (concrete, straight-through)."""
    temperature_final: float | None = 0.3
    """T at the end, reached linearly; None keeps temperature."""
    sharpness: float = 50.0
    """c at the start (sigmoid)."""
    sharpness_final: float | None = 200.0
    """c at the end, reached linearly; None keeps sharpness."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    patience: int | None = None
    """Stop after this many validations without a better ELBO and keep the best; None trains to the end."""
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

    def __post_init__(self):
        whole = {"steps": 1, "batch_size": 1, "log_every": 1, "valid_every": 1, "checkpoint_every": 1}
        whole |= {"devices": 1, "nodes": 1}
        for name, least in whole.items():
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise UsageError(f"train.{name} must be at least {least}, not {getattr(self, name)}")
        for name in (each.name for each in fields(self) if each.name.endswith(("_hold", "_ramp", "_drop", "_warmup"))):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"train.{name} is a share of the steps, in [0, 1], not {value}")
        positive = ("lr", "lr_first", "lr_final", "prior_lr", "clip", "temperature", "temperature_final", "sharpness")
        for name in (*positive, "sharpness_final"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"train.{name} must be a positive number, not {value}")
        _check_seed("train.seed", self.seed)
        for name in ("beta", "slab_beta", "spike_beta", "total_correlation", "penalty", "price", "target_l0"):
            if not 0 <= (getattr(self, name) or 0) < math.inf:
                raise UsageError(f"train.{name} must be a number that is not negative, but is {getattr(self, name)}")
        if not math.isfinite(self.price_start):
            raise UsageError(f"train.price_start must be a number, but is {self.price_start}")
        if (self.price or self.price_start) and self.target_l0:
            raise UsageError("train.target_l0 finds the price itself; leave out train.price and train.price_start")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"train.patience must be at least 1, not {self.patience}")

    def knobs(self, step: int, spikes: str = "straight-through") -> Knobs:
        """
        Return the schedules' values, a pure function of the step.

        Parameters
        ----------
        step : int
            Steps taken so far.
        spikes : str
            The spike estimator, which decides whether the relaxation is T or c.

        Returns
        -------
        Knobs
            lambda, the weights in the loss, relaxation and learning rate at this step.
        """
        n = self.steps or 0
        formed = round(self.spike_hold * n)
        first, last = self.temperature, self.temperature_final
        if spikes == "sigmoid":
            first, last = self.sharpness, self.sharpness_final
        late = round(self.penalty_hold * n), round(self.penalty_ramp * n)
        lr = ramp(step, self.lr, self.lr_final or self.lr, round(self.lr_drop * n), round(self.lr_ramp * n))
        if self.lr_first and step < round(self.lr_hold * n):
            lr = self.lr_first
        return Knobs(
            lam=ramp(step, 0.0, 1.0, round(self.lam_hold * n), round(self.lam_ramp * n)),
            beta=ramp(step, 0.0, self.beta, 0, round((self.kl_warmup or 0.0) * n)),
            slab_beta=ramp(step, self.slab_beta, 1.0, 0, formed),
            spike_beta=ramp(step, 1.0, self.spike_beta, formed, round(self.spike_ramp * n)),
            total_correlation=ramp(step, 0.0, self.total_correlation, 0, formed),
            penalty=ramp(step, 0.0, self.penalty, *late),
            price=ramp(step, self.price_start, self.price, *late),
            relaxation=ramp(step, first, first if last is None else last, 0, n),
            lr=lr,
        )


@dataclass(frozen=True)
class Config:
    """One training run."""

    data: DataConfig = field(default_factory=DataConfig)
    """Which data, and how they reach the model."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The optimisation."""


@dataclass(frozen=True)
class TrainRun(Config):
    """Train one model and save it in a run folder."""

    out: str | None = None
    """Run folder; by default runs/DATA-MODEL."""
    resume: bool = False
    """Go on from the last checkpoint of the run in --out, with its settings."""
    overwrite: bool = False
    """Replace a run that is already in --out."""


@dataclass(frozen=True)
class Compare(Config):
    """Train several models on the same data, measure them and write one page that compares them."""

    models: str = "ae,vae,vsc,vsc-wu"
    """Models to compare, separated by commas."""
    seeds: int = 1
    """Runs of each model, with seeds train.seed, train.seed + 1 and so on; the page shows means and spread."""
    out: str | None = None
    """Folder for the page and the runs; by default runs/compare-DATA."""
    resume: bool = False
    """Keep the runs in --out that are finished, and finish the others."""
    overwrite: bool = False
    """Replace a comparison that is already in --out."""


@dataclass(frozen=True)
class RunStudy(Config):
    """Repeat an experiment of the sources: train its runs, measure them, and write a table, a figure and a page."""

    data: DataConfig = field(default_factory=lambda: DataConfig(name="auto"))
    """Which data, and how they reach the model; auto is the data set of the source."""
    study: str = "list"
    """Name of the study; list shows all of them, all conducts all that the data allow."""
    quick: bool = False
    """Settings that suit two CPU cores: the default, unless --full is given."""
    full: bool = False
    """The source's own settings, which can take hours."""
    seeds: int = 1
    """Runs of each row, with seeds train.seed, train.seed + 1 and so on; tables and bands show the spread."""
    dims: str | None = None
    """Numbers of latents J instead of the study's own, separated by commas."""
    alphas: str | None = None
    """Prior spike probabilities instead of the study's own, separated by commas."""
    split: str = "test"
    """Part of the data that is measured: test, or valid to choose settings by."""
    workers: int = 1
    """Processes that train at the same time, with a share of the CPU cores each. The same command typed on another
    machine that sees the same folder helps too."""
    storage: str | None = None
    """Where several machines agree on who trains what, if the locks of the disk that they share --out on cannot be
    relied on: optuna's journal file, or a database as sqlite:///FILE or another URL of SQLAlchemy."""
    out: str = "runs/studies"
    """Folder of all studies, which share their runs: those that are finished are found again."""


@dataclass(frozen=True)
class Tune(Config):
    """Search for the settings that are best on the validation part; the test set is never looked at."""

    space: str | None = None
    """What to search, separated by commas: SETTING=LOW..HIGH, SETTING=LOW..HIGH:log, or SETTING=A|B|C, for settings of
    model and train. By default train.lr from a quarter to four times its value, model.latent_dim from half to twice,
    and model.alpha from 0.01 to 0.5 where the model has it and no train.target_l0 sets it."""
    trials: int = 20
    """Settings to try in all, those of earlier calls included."""
    metric: str = "elbo"
    """What is to be best: a score, or a metric of the codes or a part of one, such as knn-1000."""
    pruner: str = "median"
    """When a bad run is stopped: median, at a validation below the median of the others; halving, unless it is in the
    better half after 20, 40 and 80 % of the steps; or none. Only for elbo and log_px, which training measures."""
    workers: int = 1
    """Processes that train at the same time, with a share of the CPU cores each. The same command typed on another
    machine that sees the same folder helps too."""
    storage: str | None = None
    """Where the trials are kept: optuna's journal file, by default OUT/journal.log, or a database as sqlite:///FILE or
    another URL of SQLAlchemy."""
    out: str | None = None
    """Folder for best.yaml, tune.json and the runs, which are found again; by default runs/tune-DATA."""


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained model on held-out data, with hard spikes, and write results.json into its run folder."""

    run: str
    """Run folder."""
    split: str = "test"
    """Part of the data: test or valid."""
    samples: int = 5
    """Draws of z per example that the bounds are averaged over."""
    seed: int = 0
    """Seed of these draws, of the noise and of the probe's examples."""
    metrics: str | None = None
    """Metrics of the codes, separated by commas; all is those that the data allow, but the slow ones."""
    iwae: int | None = None
    """Draws K of the importance-weighted bound on log p(x), 5000 for published numbers; by default it is left out."""
    data_root: str | None = None
    """Folder of downloaded data, where it is not the one that the run was trained with."""

    def __post_init__(self):
        _check_seed("seed", self.seed)


@dataclass(frozen=True)
class Report:
    """Write one page on a trained run: every used latent, what it does, and single examples."""

    run: str
    """Run folder."""
    split: str = "test"
    """Part of the data: test or valid."""
    out: str | None = None
    """The .html file to write; by default report.html in the run folder."""
    data_root: str | None = None
    """Folder of downloaded data, where it is not the one that the run was trained with."""


@dataclass(frozen=True)
class Encode:
    """Write the codes of a data set or of a file of your own: z = gamma mu, hard z, gamma, mu and labels."""

    run: str
    """Run folder."""
    data: str | None = None
    """A file of your own, or a folder of .npy files, all of whose rows are encoded in their order; by default the
    run's own data."""
    split: str = "test"
    """Part of the run's own data: train, valid or test."""
    out: str = "codes.npz"
    """The .npz file to write."""
    data_root: str | None = None
    """Folder of downloaded data, where it is not the one that the run was trained with."""


@dataclass(frozen=True)
class Sample:
    """Draw codes from the prior and decode them."""

    run: str
    """Run folder."""
    n: int = 64
    """Number of samples."""
    seed: int = 0
    """Seed of the draws."""
    out: str = "samples.npz"
    """The file to write: .npz (x in the units of the data, and z), or .png for a picture of images."""

    def __post_init__(self):
        _check_seed("seed", self.seed)


@dataclass(frozen=True)
class ShowData:
    """Load a data set, say what is in it, and write it to a file if asked."""

    name: str
    """A data set's name, or the path of a .npy, .npz, .csv, .bin or .raw file or of a folder of .npy files."""
    data_root: str | None = None
    """Folder of downloaded data; by default the environment's VSC_DATA, else a cache folder of the user's. For har and
    har-signals also the unpacked folder `UCI HAR Dataset` or its zip file."""
    out: str | None = None
    """An .npz file to write: newly generated Smileys (with --n and --presence), or, of any other data set, all parts
    and all that is known of them: x, y, factors, presence and extra_NAME of the training part, the same with _valid
    and _test of the others, classes, groups and so on. --data takes it again."""
    n: int = 60_000
    """Number of Smileys to write."""
    presence: float = 0.5
    """Probability of each attribute of a written Smiley."""
    seed: int = 0
    """Seed of the written Smileys."""
