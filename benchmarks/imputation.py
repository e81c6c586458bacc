"""Filling in missing values: VSC, the mean, and scikit-learn's IterativeImputer.

usage: python benchmarks/imputation.py [wine cancer diabetes affairs] [--seeds 3] [--choose]

A fifth of the values of a table is removed at random, others for each seed, and every method sees the whole of what is
left: `model.impute` of a VSC that is trained on it, the mean (of text the commonest), and IterativeImputer, all as it
is, with text one-hot and its largest value taken. Columns: root mean square error over the removed numbers, in standard
deviations of their columns; share of the removed texts that is filled in wrongly; the first as a multiple of
IterativeImputer's; seconds of one core. Means over the seeds, and standard deviations.

`--choose` compares `CANDIDATES`, on other seeds: a tenth of what is left is hidden too, and the error is that of these
values alone. Wine, breast cancer (30 columns) and diabetes are scikit-learn's; affairs is statsmodels' `fair`, with its
occupations as text.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import sklearn.datasets
import torch
from numpy.typing import NDArray
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer

import vsc
from vsc.cli.tables import markdown
from vsc.data.split import Dataset, Split
from vsc.fields import collapse, describe, expand, names

Fill = Callable[[pd.DataFrame, int], pd.DataFrame]
WORK = ["student", "farming", "white-collar", "teacher", "managerial", "professional"]

FREE = {"train.steps": 1000, "train.cap": 1.0, "model.latent_dim": 12}
OPEN = FREE | {"model.gate_init": 3.0}
CANDIDATES: dict[str, dict[str, Any]] = {
    "2000 steps": {"train.steps": 2000},
    "1000 steps": {"train.steps": 1000},
    "1000 steps, no cap": {"train.steps": 1000, "train.cap": 1.0},
    "1000 steps, no cap, 12 latents": FREE,
    "the same, hidden 1000": FREE | {"model.hidden": (1000,)},
    "the same, gates open at first": OPEN,
    "the same, gates open at first, slab unit": OPEN | {"model.slab": "unit"},
    "VAE, 1000 steps, 8 latents": {"train.steps": 1000, "model.name": "vae", "model.latent_dim": 8},
}
"""Settings that differ from the defaults; all train on all rows to the end."""
CHOSEN = "the same, gates open at first, slab unit"
"""The VSC that is measured: that whose error on validation cells is smallest where it is largest."""


def sklearns(load: Callable[..., Any]) -> pd.DataFrame:
    """Return the columns of a data set of scikit-learn's."""
    return load(as_frame=True).data.astype(float)


def affairs() -> pd.DataFrame:
    """6366 women of 1974: their marriage, age, children, occupations, and whether there was an affair."""
    import statsmodels.api as sm

    frame: Any = sm.datasets.fair.load_pandas().data
    work = {float(i): name for i, name in enumerate(WORK, 1)}
    for name in ("occupation", "occupation_husb"):
        frame[name] = frame[name].map(work)
    return frame.assign(affairs=np.where(frame["affairs"] > 0, "yes", "no"))


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "wine": lambda: sklearns(sklearn.datasets.load_wine),
    "cancer": lambda: sklearns(sklearn.datasets.load_breast_cancer),
    "diabetes": lambda: sklearns(sklearn.datasets.load_diabetes),
    "affairs": affairs,
}


def removed(frame: pd.DataFrame, share: float, seed: int) -> NDArray[np.bool_]:
    """Say which values to remove; every row keeps one at least."""
    generator = np.random.default_rng(seed)
    lost = generator.random(frame.shape) < share
    lost[lost.all(1), generator.integers(frame.shape[1])] = False
    return lost


def ours(settings: dict[str, Any]) -> Fill:
    """Return what trains a VSC of these settings on all rows and fills in."""

    def fill(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
        fields = describe(frame)
        rows = Split(torch.from_numpy(expand(frame, fields)))
        shape = (rows.x.shape[1],)
        data = Dataset("table", shape, rows, rows.take(slice(0, 0)), rows, features=names(fields), fields=fields)
        parts: dict[str, dict[str, Any]] = {"model": {}, "train": {"seed": seed, "patience": 0}}
        for name, value in settings.items():
            part, key = name.split(".")
            parts[part][key] = value
        config = vsc.Config(model=vsc.ModelConfig(**parts["model"]), train=vsc.TrainConfig(**parts["train"]))
        return vsc.train(data, config).impute(frame)

    return fill


def means(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Fill in means, and of text what is commonest."""
    usual = {name: column.mean() if column.dtype.kind == "f" else column.mode()[0] for name, column in frame.items()}
    return frame.fillna(usual)


def iterative(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Fill in by scikit-learn's chained regressions, all as it is."""
    fields = describe(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that ten rounds are few
        x = np.asarray(IterativeImputer(random_state=seed).fit_transform(expand(frame, fields)))
    filled = collapse(x, fields)
    return frame.fillna({name: pd.Series(values, index=frame.index) for name, values in filled.items()})


class Errors(NamedTuple):
    """Root mean square error of numbers, in standard deviations; share of texts that is wrong, NaN without; seconds."""

    numbers: float
    texts: float
    seconds: float


def measured(fill: Fill, truth: pd.DataFrame, given: pd.DataFrame, cells: NDArray[np.bool_], seed: int) -> Errors:
    """Fill in a table that lacks values, and compare some `cells` with the truth."""
    start = time.process_time()
    filled, errors, wrong = fill(given, seed), [], []
    seconds = time.process_time() - start
    for m, name in enumerate(truth):
        there, found = truth[name][cells[:, m]], filled[name][cells[:, m]]
        if truth[name].dtype.kind == "f":
            errors.append(((found - there) / truth[name].std(ddof=0)) ** 2)
        else:
            wrong.append(found != there)
    texts = float(np.concatenate(wrong).mean()) if wrong else float("nan")
    return Errors(float(np.sqrt(np.concatenate(errors).mean())), texts, seconds)


def row(table: str, method: str, found: Sequence[Errors], against: Sequence[Errors]) -> list[str]:
    """Print means over seeds, and what they are as multiples of IterativeImputer's, seed by seed."""

    def spread(values: Sequence[float], digits: int = 3) -> str:
        if np.isnan(values).any():
            return "–"
        sd = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.{digits}f}{sd}"

    times = [mine.numbers / theirs.numbers for mine, theirs in zip(found, against, strict=True)]
    texts = [mine.texts / theirs.texts for mine, theirs in zip(found, against, strict=True)]
    numbers, wrong, seconds = zip(*found, strict=True)
    cells = [spread(numbers), spread(times, 2), spread(wrong), spread(texts, 2), f"{statistics.mean(seconds):.1f}"]
    return [table, method, *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="*", default=list(TABLES), metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choose", action="store_true", help="compare candidates on validation cells of other seeds")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    own = {name: ours(CANDIDATES[name]) for name in CANDIDATES} if asked.choose else {"VSC": ours(CANDIDATES[CHOSEN])}
    methods: dict[str, Fill] = {"IterativeImputer": iterative, "mean, commonest": means, **own}
    rows = []
    for table in asked.tables:
        truth, found = TABLES[table](), {name: [] for name in methods}
        for seed in range(asked.seeds):
            cells = removed(truth, 0.2, seed + 100 * asked.choose)
            given = truth.mask(cells)
            if asked.choose:
                cells = removed(truth, 0.1, seed + 200) & ~cells
                given = given.mask(cells)
            for name, fill in methods.items():
                found[name].append(measured(fill, truth, given, cells, seed))
        new = [row(table, name, errors, found["IterativeImputer"]) for name, errors in found.items()]
        print("\n".join(" | ".join(cells) for cells in new), flush=True)
        rows += new
    ratio = "× IterativeImputer"
    heads = ["table", "method", "error of numbers (sd)", ratio, "wrong texts", ratio, "seconds"]
    print("\n".join(["", *markdown(heads, rows)]))


if __name__ == "__main__":
    main()
