"""The tables of docs/results.md: every row is a run (or one for each seed), kept and found again in a folder.

usage: python benchmarks/tables.py TABLE [--out runs/tables] [--jobs 2] [--split test] [--steps N] [--only WORD]

Runs are found again by their settings: a finished one is not trained again, an interrupted one goes on where it was,
and several of these commands may work on one folder at the same time. `--jobs` processes share the CPU cores. `--split
valid` measures on the validation part, for choosing settings. TABLE.json in the folder has the scores of every run of
the last table that was made whole.
"""

import argparse
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn.datasets

from vsc import load_data
from vsc.data import DATASETS
from vsc.errors import RunError, UsageError
from vsc.files import write_json
from vsc.settings.config import Config
from vsc.settings.presets import PRESETS, changed
from vsc.settings.resolve import unused, without
from vsc.studies import Group, Row
from vsc.sweep.jobs import plan, sweep
from vsc.training.loop import Interrupted

Settings = dict[str, Any]

VSC, VAE, FIXED = {"model.name": "vsc"}, {"model.name": "vae"}, {"model.gates": "fixed"}
"""The default, the VAE, and the prior of ICLR."""

MODELS = {"VAE": VAE, "VSC": VSC}

PAPER = PRESETS["vsc-iclr"][1]
"""The ICLR recipe; c is raised from 50 to 200."""


HELD = "0 -> 1 at 0.2 over 0.1"
"""Warm-up of lambda."""


class Table(NamedTuple):
    """
    One table.

    Attributes
    ----------
    common : dict
        Settings that all rows share.
    rows : dict
        Title -> (the settings that differ, number of seeds). A setting "iwae" is the number of draws of that bound.
    columns : sequence of str
        Fields of `Scores` to print, `kl_per_used` and `minutes` among them.
    """

    common: Settings
    rows: dict[str, tuple[Settings, int]]
    columns: Sequence[str] = ("elbo", "log_px", "kl_slab", "kl_spike", "l0", "active", "used", "always_on", "probe")


DEFAULT = ("elbo", "no_latents", "log_px", "l0", "active", "used", "always_on", "probe")

MNIST = {"data.name": "mnist", "model.latent_dim": 200, "train.steps": 20_000}
SHORT = MNIST | FIXED | {"model.alpha": 0.01, "train.steps": 6000}


def mnist() -> dict[str, tuple[Settings, int]]:
    """Return the VAE, the default, a front of other caps and targets, and the priors and recipes of the sources."""
    fixed = FIXED | {"model.alpha": 0.01}
    rows: dict[str, tuple[Settings, int]] = {"VAE": (VAE, 3), "VSC": (VSC, 3)}
    rows["VSC, half the steps"] = ({"train.steps": 10_000}, 3)
    rows["VSC, no cap"] = ({"train.cap": 1.0}, 1)
    for target in (6.0, 20.0):
        rows[f"VSC, target l0 {target:g}"] = ({"train.target_l0": target}, 1)
    rows["VSC, mixture"] = ({"model.gates": "mixture"}, 1)
    rows["VSC, fixed prior"] = (fixed, 1)
    rows["VSC, ICLR recipe"] = (PAPER | {"model.alpha": 0.01}, 1)
    rows["VSC, UAI recipe"] = (PRESETS["vsc-uai"][1] | {"model.alpha": 0.01}, 1)
    return rows


def defaults() -> dict[str, tuple[Settings, int]]:
    """Return the default and the VAE on data of every kind, all else at its default."""
    sets = {"digits": 32, "fashion-mnist": 50, "har-signals": 60, "wine": 16, "breast_cancer": 30, "diabetes": 16}
    return {
        f"{title}, {name}": (own | {"data.name": source(name), "model.latent_dim": J}, 3)
        for name, J in sets.items()
        for title, own in MODELS.items()
    }


def signals() -> dict[str, tuple[Settings, int]]:
    """Return the mlp and conv1d nets of as many weights, each with the VAE and the default."""
    nets = {"mlp": {"model.hidden": (84,)}, "conv1d": {"model.net": "conv1d"}}
    return {f"{title}, {name}": (own | net, 3) for name, net in nets.items() for title, own in MODELS.items()}


def robustness() -> dict[str, tuple[Settings, int]]:
    """Return the default over kinds of data, their number n and J."""
    rows: dict[str, tuple[Settings, int]] = {}
    for name in ("mnist", "fashion-mnist"):
        for n in (200, 1000, 5000, 54_000):
            for J in (8, 32, 100, 200, 500):
                own = {"data.name": source(name, n), "model.latent_dim": J, "model.likelihood": "bernoulli"}
                rows[f"{name}, n {n}, J {J}"] = (own, 1)
    for name in ("digits", "har-signals", "wine", "breast_cancer", "diabetes"):
        for J in (8, 16, 50, 200):
            rows[f"{name}, J {J}"] = ({"data.name": source(name), "model.latent_dim": J}, 1)
    return rows


def source(name: str, n: int | None = None) -> str:
    """Return what to load: a data set's name, or a file of a table of scikit-learn's, or of the first n examples."""
    if name in DATASETS and n in (None, 54_000):
        return name
    return str(FILES / (f"{name}-{n}.npz" if n else f"{name}.csv"))


FILES = Path("runs/tables/data")
"""Where these files are written."""


def write_sources(table: "Table") -> None:
    """Write the files that a table's rows are of, where they are not there yet."""
    for name in {str(own.get("data.name", "")) for own, _ in table.rows.values()}:
        path = Path(name)
        if path.parent != FILES or path.exists():
            continue
        FILES.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            frame = getattr(sklearn.datasets, f"load_{path.stem}")()
            labels = ["label"] if path.stem != "diabetes" else []  # whose target is no class
            columns = [*frame.data.T, *([frame.target] if labels else [])]
            names = [column.replace(",", "") for column in [*frame.feature_names, *labels]]
            np.savetxt(path, np.stack(columns, 1), "%.9g", ",", header=",".join(names), comments="")
        else:
            of, _, n = path.stem.rpartition("-")
            data, size = load_data(of), int(n) * 10 // 9  # a tenth is kept for validation
            train, test = data.train, data.test
            assert train.y is not None
            assert test.y is not None
            both = {"x": train.x[:size], "x_test": test.x[:2000], "shape": np.array(data.shape), "high": data.high}
            np.savez(path, **both, y=train.y[:size], y_test=test.y[:2000])


WARMUPS = {
    "none": {"train.beta": 1.0},
    "KL over 0.1 (default)": {},
    "lambda: 0 for 0.2, ramp 0.1": {"train.beta": 1.0, "train.lam": HELD},
    "lambda and KL, T 1 (vsc-wu)": {
        "train.lam": HELD,
        "train.beta": "0 -> 1 at 0 over 0.3",
        "train.relaxation": 1.0,
    },
}

BINARISED = {
    "data.name": "mnist",
    "data.binarise": True,
    "model.latent_dim": 50,
    "model.hidden": (200, 200),
}

TABLES = {
    "mnist": Table(
        MNIST,
        mnist(),
        (
            "elbo",
            "relaxed_elbo",
            "log_px",
            "kl_slab",
            "kl_spike",
            "kl_selection",
            "l0",
            "active",
            "used",
            "always_on",
            "mse",
            "probe",
        ),
    ),
    "defaults": Table({}, defaults(), DEFAULT),
    "signals": Table({"data.name": "har-signals", "model.latent_dim": 60}, signals(), DEFAULT),
    "robustness": Table({}, robustness(), DEFAULT),
    "warmup": Table(
        SHORT | {"model.latent_dim": 60, "model.alpha": 0.05},
        {name: (one, 3) for name, one in WARMUPS.items()},
        ("elbo", "log_px", "kl_slab", "kl_spike", "kl_per_used", "l0", "active", "used", "always_on", "probe"),
    ),
    "binarised": Table(
        BINARISED,
        {
            f"{title}, 60k steps": (own | {"train.steps": 60_000, "iwae": 5000}, seeds)
            for title, own, seeds in (("VAE", VAE, 1), ("VSC, no cap", {"train.cap": 1.0}, 3))
        },
        ("iwae", "elbo", "log_px", "kl_slab", "kl_spike", "kl_selection", "l0", "used", "always_on", "probe"),
    ),
}


def config_of(settings: Settings) -> Config:
    """Return a row's settings, without those of the whole table that do nothing for its model."""
    config = changed(Config(), settings)
    return without(config, unused(config))


def groups_of(table: Table, folder: Path, workers: int, split: str, only: str) -> list[Group]:
    """Make every row of a table, or find its runs again."""
    planned = []
    for title, (own, seeds) in table.rows.items():
        if only not in title:
            continue
        row, settings = Row({"row": title}, table.common | own, seeds=seeds), table.common | own
        iwae = settings.pop("iwae", None)
        config = config_of(settings)
        for seed in range(seeds):
            one = changed(config, {"train.seed": seed})
            planned.append((row, plan(f"{title}, seed {seed}", one, folder, iwae=iwae)))
    command = shlex.join(["python", *sys.argv])
    found = sweep([job for _, job in planned], workers, split, command=command)
    groups: dict[str, Group] = {}
    for (row, job), results in zip(planned, found, strict=True):
        group = groups.setdefault(row.label, Group(row, [], []))
        group.jobs.append(job)
        group.results.append(results)
    return list(groups.values())


def values(group: Group, column: str) -> list[float]:
    """Return a column of `Table` for each seed; empty where the model has no such number."""
    if column != "kl_per_used":
        return group.values(column)
    slab, spike, used = (group.values(name) for name in ("kl_slab", "kl_spike", "used"))
    return [(a + b) / max(n, 1) for a, b, n in zip(slab, spike, used, strict=True)]


def make(name: str, table: Table, folder: Path, workers: int, split: str, only: str) -> list[str]:
    """Make every row of a table, `workers` at a time, and return it as lines of Markdown."""
    groups = groups_of(table, folder, workers, split, only)
    columns = [*table.columns, "minutes"]
    lines = ["| " + " | ".join([name, "seeds", *columns]) + " |", "|" + "---|" * (len(columns) + 2)]
    for group in groups:
        cells = [_cell(values(group, column)) for column in columns]
        lines.append("| " + " | ".join([group["row"], str(len(group.jobs)), *cells]) + " |")
    if not only:
        rows = {group["row"]: [one.scores._asdict() for one in group.results] for group in groups}
        write_json(folder / f"{name}.json", {"split": split, "rows": rows})
    return lines


def _cell(known: Sequence[float]) -> str:
    if not known:
        return "–"
    digits = 2 if max(abs(value) for value in known) >= 1.5 else 3
    spread = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.{digits}f}{spread}"


def main(words: Sequence[str] | None = None) -> None:
    """Make one table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    parser.add_argument("--steps", type=int, help="instead of the table's own number")
    parser.add_argument("--data", help="instead of the table's own data")
    parser.add_argument("--only", default="", help="rows whose title has this word")
    asked = parser.parse_args(words)
    table = TABLES[asked.table]
    own = {"train.steps": asked.steps, "data.name": asked.data}
    table = table._replace(common=table.common | {k: v for k, v in own.items() if v is not None})
    try:
        write_sources(table)
        print("\n".join(make(asked.table, table, asked.out, asked.jobs, asked.split, asked.only)))
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        raise SystemExit(stop.code) from None
    except (UsageError, RunError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
