"""
What each command of the command line takes, beside the settings of a run.

Each has an `example` for its help, and may name the options that its first bare `words` stand for.
"""

from dataclasses import dataclass, field
from typing import Literal

from vsc.errors import UsageError, at_least
from vsc.settings.config import Config, DataConfig, check_seed

Pruner = Literal["median", "halving", "none"]


@dataclass(frozen=True)
class TrainRun(Config):
    """Train one model and save it in a run folder."""

    example = "vsc train --data mine.csv --latent-dim 16 --out runs/mine"
    out: str | None = None
    """Run folder; by default runs/DATA-MODEL."""
    resume: bool = False
    """Go on from the last checkpoint of the run in --out, with its settings."""
    overwrite: bool = False
    """Replace a run that is already in --out."""


@dataclass(frozen=True)
class Many(Config):
    """What commands that train many runs have in common."""

    workers: int = 1
    """Processes that train at the same time, with a share of the CPU cores each. The same command typed in another
    terminal helps too, but of vsc compare."""
    engine: str = "loky"
    """Who does the runs: loky, those processes on this machine; or dask:tcp://HOST:8786, the workers of a cluster that
    sees the same folders."""


@dataclass(frozen=True)
class Compare(Many):
    """Train several models on the same data, measure them and write one page that compares them."""

    example = "vsc compare --data mnist --latent-dim 60"
    models: str = "ae,vae,vsc-fixed,vsc-wu,vsc"
    """Models to compare, separated by commas."""
    equal: bool = True
    """Train a small VAE too, where `vae` and `vsc` are among the models: as many latents as an input of vsc has on, on
    the validation part, so that the two compare at equal non-zeros."""
    seeds: int = 1
    """Runs of each model, with seeds train.seed, train.seed + 1 and so on; the page shows means and spread."""
    out: str | None = None
    """Folder for the page and the runs; by default runs/compare-DATA."""
    resume: bool = False
    """Keep the runs in --out that are finished, and finish the others."""
    overwrite: bool = False
    """Replace a comparison that is already in --out."""


@dataclass(frozen=True)
class RunStudy(Many):
    """Repeat an experiment of the sources: train its runs, measure them, and write a table, a figure and a page."""

    example = "vsc study denoise --data digits --workers 2"
    words = "study"
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
    out: str = "runs/studies"
    """Folder of all studies, which share their runs: those that are finished are found again."""


@dataclass(frozen=True)
class Tune(Many):
    """Search for the settings that are best on the validation part; the test set is never looked at."""

    example = "vsc tune --data mnist --trials 30 --space 'train.lr=1e-4..1e-2:log,model.latent_dim=16..64'"
    choose: str | None = None
    """Instead of a search, choose l0 without labels: train a short path over train.target_l0 with several seeds, draw
    the ELBO and which latents come back against it, and recommend one."""
    at: str | None = None
    """The l0 that --choose l0 tries, separated by commas; by default five from half to 2.8 times the latents that
    the model has on by itself, and that."""
    seeds: int = 2
    """Runs of each l0 of --choose l0, with seeds train.seed, train.seed + 1 and so on."""
    space: str | None = None
    """What to search, separated by commas: SETTING=LOW..HIGH, SETTING=LOW..HIGH:log, or SETTING=A|B|C, for settings of
    model and train. By default model.latent_dim from half to twice its value, where no train.target_l0 is asked also
    train.cap from 0.15 to 0.6, or model.alpha from 0.01 to 0.5 with the gates fixed, and a constant train.lr from a
    quarter to four times its value."""
    trials: int = 20
    """Settings to try in all, those of earlier calls included."""
    metric: str = "elbo"
    """What is to be best: a score, or a metric of the codes or a part of one, such as knn-1000."""
    pruner: Pruner = "median"
    """When a bad run is stopped: median, at a validation below the median of the others; halving, unless it is in the
    better half after 20, 40 and 80 % of the steps; or none. Only for elbo and log_px, which training measures."""
    storage: str | None = None
    """Where the trials are kept: optuna's journal file, by default OUT/journal.log, or a database as sqlite:///FILE or
    another URL of SQLAlchemy."""
    out: str | None = None
    """Folder for best.yaml, tune.json and the runs, which are found again; by default runs/tune-DATA."""


@dataclass(frozen=True)
class OnRun:
    """What commands on a trained run have in common."""

    words = "run"
    run: str
    """Run folder."""


@dataclass(frozen=True)
class OnData(OnRun):
    """What commands on a trained run and its data have in common."""

    data_root: str | None = None
    """Folder of downloaded data, where it is not the one that the run was trained with."""


@dataclass(frozen=True)
class Evaluate(OnData):
    """Measure a trained model on held-out data, with hard spikes, and write results.json into its run folder."""

    example = "vsc evaluate runs/mine"
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
    refine: int = 0
    """Sweeps of coordinate ascent beyond the encoder's codes, of a linear VSC; written to results-refined.json."""

    def __post_init__(self):
        check_seed("seed", self.seed)
        at_least(0, self.refine, "refine")
        if self.refine and self.iwae:
            raise UsageError("the importance-weighted bound draws from the encoder, not refined; give refine or iwae")


@dataclass(frozen=True)
class Report(OnData):
    """Write one page on a trained run: every used latent, what it does, and single examples."""

    example = "vsc report runs/mine"
    split: str = "test"
    """Part of the data: test or valid."""
    out: str | None = None
    """The .html file to write; by default report.html in the run folder."""
    live: bool = True
    """Whether the page carries the decoder, so that its reader can alter codes and see what they decode to."""


@dataclass(frozen=True)
class Encode(OnData):
    """Write the codes of a data set or of a file of your own, and say which latents matter."""

    example = "vsc encode runs/mine --data mine.csv --out codes.npz"
    data: str | None = None
    """A file of your own, all of whose rows are encoded in their order; by default the
    run's own data."""
    split: str = "test"
    """Part of the run's own data: train, valid or test."""
    out: str = "codes.npz"
    """The file to write: .npz (z = gamma mu, hard z, gamma, mu, rows, y); a table of hard codes latent_0, latent_1 and
    so on, .csv or .parquet, beside the number or name of each row; or .csr.npz, a sparse matrix of SciPy's."""
    refine: int = 0
    """Sweeps of coordinate ascent beyond the encoder, of a VSC with a linear decoder such as vsc-linear: each sets
    every latent to Bayes' rule given the others. The first gains most; slower."""

    def __post_init__(self):
        at_least(0, self.refine, "refine")


@dataclass(frozen=True)
class Impute(OnRun):
    """Fill in what is missing of a table, by its expectation given what is there; of text, the most probable."""

    example = "vsc impute runs/mine --data mine.csv --out filled.csv"
    run: str
    """Run folder, of a model that was trained on a table with missing values."""
    data: str
    """The table: a .csv, .tsv, .parquet, .feather or .arrow file with the columns of the run's own."""
    draws: int = 200
    """Draws of the code that the expectation is taken over."""
    seed: int = 0
    """Seed of these draws."""
    out: str = "filled.csv"
    """The .csv or .parquet file to write: the same table, all of its columns, with nothing missing."""
    data_root: str | None = None
    """Folder in which the table lies, where it is not the one that it is named from."""

    def __post_init__(self):
        check_seed("seed", self.seed)


@dataclass(frozen=True)
class Sample(OnRun):
    """Draw codes from the prior and decode them."""

    example = "vsc sample runs/mine --n 64 --out samples.npz"
    n: int = 64
    """Number of samples."""
    seed: int = 0
    """Seed of the draws."""
    out: str = "samples.npz"
    """The file to write: .npz (x in the units of the data, and z), or .png for a picture of images."""

    def __post_init__(self):
        check_seed("seed", self.seed)


@dataclass(frozen=True)
class Push(OnRun):
    """Put a trained run on a model hub: the model, and a card with its measured numbers and its commands."""

    example = "vsc push runs/mine someone/mine --private --license apache-2.0"
    words = "run name"
    name: str
    """USER/NAME; vsc.load("hf://USER/NAME") reads it from there. It is made if it is not there."""
    private: bool = False
    """Only you may see it."""
    license: str | None = None
    """The model's license by its name on the hub, such as apache-2.0; without it the card says that none was chosen."""


@dataclass(frozen=True)
class Export(OnRun):
    """Write a trained model for others: without PyTorch (encoder.onnx and decoder.onnx), or for SAELens."""

    example = "vsc export runs/mine --onnx"
    run: str
    """Run folder, or hf://USER/NAME."""
    onnx: bool = False
    """As ONNX, for batches of any size: gamma, mu and hard of examples, and examples of codes."""
    saelens: bool = False
    """As cfg.json and sae_weights.safetensors, which SAELens loads with SAE.load_from_disk: of a linear VSC."""
    out: str | None = None
    """Folder for the two files; by default onnx or saelens in the run folder."""
    data_root: str | None = None
    """Folder of downloaded data, which SAELens' values are fitted to, where it is not the run's own."""


@dataclass(frozen=True)
class Demo:
    """Compare models on real digits, then on generated faces: two pages, in a few minutes and without a download."""

    example = "vsc demo --out runs/demo"
    out: str = "runs/demo"
    """Folder for both comparisons; those of an earlier demo in it are replaced."""


@dataclass(frozen=True)
class ShowData:
    """Load a data set, say what is in it, and write it to a file if asked."""

    example = "vsc data digits --out digits.npz"
    words = "name"
    name: str
    """A data set's name, or the path of a table (.csv, .parquet ...), of a .npy, .npz or IDX file, or of a folder of
    .npy files or of pictures."""
    label: str | None = None
    """A table's column of classes, none if it has none; by default that named label, class, target or y, unless it is
    continuous."""
    drop: str | None = None
    """Columns of a table to leave out, separated by commas."""
    columns: str | None = None
    """What columns of a table are, where something else is meant than is listed, separated by commas: NAME=KIND or
    PATTERN*=KIND; gaussian, bernoulli, categorical, poisson or negative-binomial."""
    size: int | str | None = None
    """What the pictures of a folder are brought to, in pixels: 64, or 64x48 (width x height)."""
    data_root: str | None = None
    """Folder of downloaded data; by default the environment's VSC_DATA, else a cache folder of the user's. For har and
    har-signals also the unpacked folder `UCI HAR Dataset` or its zip file."""
    out: str | None = None
    """An .npz file to write, with all parts and all that is known of them: x, y, factors, presence and extra_NAME of
    the training part, the same with _valid and _test of the others, classes, groups. --data takes it again."""
