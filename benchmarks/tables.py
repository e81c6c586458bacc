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

from vsc.errors import RunError, UsageError
from vsc.files import write_json
from vsc.settings.build import unused, without
from vsc.settings.config import Config
from vsc.settings.presets import changed
from vsc.studies import Group, Row
from vsc.sweep.jobs import plan, sweep
from vsc.training.loop import Interrupted

Settings = dict[str, Any]

PSEUDO = {"model.prior": "pseudo-inputs", "train.target_l0": 0.0}
"""U = 100 pseudo-inputs, the optimal selector, nothing asked of l0."""

SPARSE = PSEUDO | {"train.target_l0": 11.0}
"""At most 12 of the 200 latents on."""

PAPER = {"model.spikes": "sigmoid", "model.head": "log-relu", "train.beta": 1.0}
"""The ICLR recipe; c is raised from 50 to 200."""


RISING, HELD = "0 -> 1 at 0 over 0.1", "0 -> 1 at 0.2 over 0.1"
"""Warm-ups of the KL and of lambda."""


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


MNIST = {"data.name": "mnist", "model.latent_dim": 200, "model.alpha": 0.01, "train.steps": 20_000}
SHORT = MNIST | {"train.steps": 6000}


def robustness() -> dict[str, tuple[Settings, int]]:
    """Return our default recipe over T, alpha and J, and the paper's beside it."""
    rows: dict[str, tuple[Settings, int]] = {}
    for alpha in (0.5, 0.2, 0.1, 0.01):
        rows[f"default, alpha {alpha:g}, J 200"] = ({"model.alpha": alpha}, 1)
    for J in (8, 50):
        for alpha in (0.5, 0.1, 0.01):
            rows[f"default, alpha {alpha:g}, J {J}"] = ({"model.latent_dim": J, "model.alpha": alpha}, 1)
    for T in (0.1, 0.25, 0.5, 1.0, 2.0):
        held = {"train.relaxation": T}
        rows[f"T {T:g}, alpha 0.01, J 200"] = (held, 1)
        if 0.25 <= T <= 1:
            rows[f"T {T:g}, alpha 0.2, J 50"] = (held | {"model.latent_dim": 50, "model.alpha": 0.2}, 1)
    for c in (1.0, 10.0, 50.0, 200.0):
        sharp = {"model.spikes": "sigmoid", "train.relaxation": c}
        rows[f"sigmoid c {c:g}, alpha 0.01, J 200"] = (sharp, 1)
    for alpha in (0.5, 0.1, 0.01):
        rows[f"ICLR recipe, alpha {alpha:g}, J 200"] = (PAPER | {"model.alpha": alpha}, 1)
    return rows


def mnist() -> dict[str, tuple[Settings, int]]:
    """Return VAE and VSC with fixed prior and with pseudo-inputs: two points of a front, and sweeps between them."""
    vae = {"model.name": "vae"}
    rows: dict[str, tuple[Settings, int]] = {
        "VAE": (vae, 3),
        "VAE, KL warm-up": (vae | {"train.beta": RISING}, 3),
        "pseudo-inputs, no limit on l0": (PSEUDO, 3),
        "pseudo-inputs, target l0 11": (SPARSE, 3),
        "VSC": ({}, 3),
        "VSC, ICLR recipe": (PAPER, 3),
    }
    for target in (6.0, 20.0):
        rows[f"pseudo-inputs, target l0 {target:g}"] = (SPARSE | {"train.target_l0": target}, 1)
    for weight, alpha in ((1.0, 0.01), (1.0, 0.05)):
        pressed = PSEUDO | {"train.penalty": weight, "model.alpha": alpha}
        rows[f"pseudo-inputs, penalty {weight:g}, alpha {alpha:g}"] = (pressed, 1)
    return rows


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
    "model.alpha": 0.1,
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
    "robustness": Table(SHORT, robustness()),
    "warmup": Table(
        SHORT | {"model.latent_dim": 60, "model.alpha": 0.05},
        {name: (one, 3) for name, one in WARMUPS.items()},
        ("elbo", "log_px", "kl_slab", "kl_spike", "kl_per_used", "l0", "active", "used", "always_on", "probe"),
    ),
    "binarised": Table(
        BINARISED,
        {
            f"{title}, 60k steps": (own | {"train.steps": 60_000, "iwae": 5000}, 1)
            for title, own in {"VAE": {"model.name": "vae"}, "VSC, pseudo-inputs": PSEUDO}.items()
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
        print("\n".join(make(asked.table, table, asked.out, asked.jobs, asked.split, asked.only)))
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        raise SystemExit(stop.code) from None
    except (UsageError, RunError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
