"""VSC beside sparse autoencoders on activations of a language model, at equal width and number of latents on.

usage: python benchmarks/activations.py FOLDER [--models vsc-linear topk ...] [--l0 8 16 32 64] [--seeds 1]

FOLDER is what `python examples/activations.py --collect --out FOLDER` writes. A fifth of the texts is held out, so that
no text is in both parts. Every model is a preset with the same width, batches, steps and scale of the inputs; runs are
kept in --out, and found again by their settings. Columns, on rows held out:

- l0: latents on per token; live: latents that are on at all; FVU: squared error, a share of that of the mean.
- k = 1, k = 5: sparse probes. Codes are averaged over the tokens of a text; for each of the 45 lexical classes with 50
  texts or more the k latents whose mean differs most between its texts and the others are read by a logistic
  regression: area under the ROC curve of held-out texts, the mean over the classes.
- cosine: of each text's embedding (the mean over its tokens) and the same from reconstructions, as a share of the way
  from the mean activation (0) to the activations themselves (1).
- stable: cosines of decoder directions, matched one to one, of live latents: mean over pairs of seeds (`stability`).
"""

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import vsc
from vsc.cli.tables import markdown
from vsc.data.split import Dataset, Source, Split, hold_out
from vsc.errors import UsageError
from vsc.metrics.matching import cosines, stability
from vsc.model import Autoencoder
from vsc.model.nets import Dictionary
from vsc.settings.config import Config
from vsc.settings.presets import PRESETS, changed
from vsc.settings.resolve import resolve, unused, without
from vsc.sweep.jobs import key
from vsc.training import runs

Array = NDArray[Any]
MODELS = ("vsc-linear", "vsc-lista", "topk", "batch-topk", "jumprelu", "gated", "matryoshka")
PROBED, FEWEST = 6000, 50
"""Texts whose codes train the probes, and texts that a class must have among them."""


class Parts(NamedTuple):
    """The data, and for some rows of the training part and all of the test part the text that each belongs to."""

    data: Dataset
    some: Split
    texts: tuple[Array, Array]


def parted(folder: Path, rows: int) -> Parts:
    """Load a folder and hold a fifth of its texts out."""
    whole = vsc.load_data(folder, valid_fraction=0)
    if not whole.texts or whole.train.y is None or whole.test.y is None:
        raise UsageError(f"{folder} has no texts.txt or no y.npy; make it with examples/activations.py --collect")
    both = (whole.train.take(slice(None)), whole.test)
    order = torch.cat([torch.as_tensor(part.index) for part in both]).argsort()[:rows]  # as they lie in the folder
    x, y = torch.cat([part.x[: len(part)] for part in both])[order], torch.cat([whole.train.y, whole.test.y])[order]
    text = torch.cat([part.extras["span"] for part in both])[order, 0]
    held = torch.from_numpy(np.random.default_rng(0).random(len(whole.texts)) < 0.2)[text]
    train, test = Split(x[~held], y[~held]), Split(x[held], y[held])
    data = hold_out(Source(train, test, whole.shape, whole.classes), folder.name, 0.02)
    own = text[~held].numpy()
    some = np.isin(own, np.unique(own)[:PROBED])
    return Parts(data, train.take(torch.from_numpy(some)), (own[some], text[held].numpy()))


class Coded(NamedTuple):
    """What a model makes of rows: codes pooled by text (T, J), the two embeddings (T, M), errors and the rest."""

    codes: Array
    true: Array
    rebuilt: Array
    labels: Array
    error: float
    l0: float
    on: Array


def coded(model: Autoencoder, split: Split, text: Array) -> Coded:
    """Code rows in batches; what belongs to one text is averaged."""
    known, place, count = np.unique(text, return_inverse=True, return_counts=True)
    J, M = model.latent_dim, split.x.shape[1]
    codes, true, rebuilt = (torch.zeros(len(known), width) for width in (J, M, M))
    at, error, on = torch.from_numpy(place), 0.0, torch.zeros(J)
    for rows in torch.arange(len(text)).split(2048):
        x, z = split.x[rows].float(), model.encode(split.x[rows]).hard
        with torch.no_grad():
            output = model.scaler.inverse(model.decode(z)).float()
        error += float((x - output).square().sum())
        on += (z != 0).sum(0)
        for total, part in ((codes, z), (true, x), (rebuilt, output)):
            total.index_add_(0, at[rows], part)
    for total in (codes, true, rebuilt):
        total /= torch.from_numpy(count)[:, None]
    labels = np.zeros(len(known), int)
    labels[place] = np.asarray(split.y)
    return Coded(codes.numpy(), true.numpy(), rebuilt.numpy(), labels, error, float(on.sum()) / len(text), on.numpy())


def probes(train: Coded, test: Coded, k: int) -> float:
    """Return the mean area under the ROC curve of k latents, chosen and weighted on `train`, over the classes."""
    found = []
    for label in np.unique(train.labels):
        y, truth = train.labels == label, test.labels == label
        if y.sum() < FEWEST or not truth.any():
            continue
        best = np.argsort(-np.abs(train.codes[y].mean(0) - train.codes[~y].mean(0)))[:k]
        scale = train.codes[:, best].std(0) + 1e-9
        regression = LogisticRegression(class_weight="balanced").fit(train.codes[:, best] / scale, y)
        found.append(roc_auc_score(truth, regression.decision_function(test.codes[:, best] / scale)))
    return float(np.mean(found))


def cosine(test: Coded, mean: Array) -> float:
    """Return how much of the embeddings' cosine is there, where 0 is the mean activation's."""

    def to(other: Array) -> float:
        norms = np.linalg.norm(test.true, axis=1) * np.linalg.norm(other, axis=-1)
        return float(np.mean((test.true * other).sum(1) / np.maximum(norms, 1e-12)))

    return (to(test.rebuilt) - to(mean)) / (1 - to(mean))


def measured(model: Autoencoder, parts: Parts) -> tuple[dict[str, float], Array]:
    """Return the numbers of a model, and the decoder directions of its live latents."""
    test = parts.data.test
    train, found = coded(model, parts.some, parts.texts[0]), coded(model, test, parts.texts[1])
    mean = parts.data.train.x.mean(0, dtype=torch.float64).numpy()
    variance = float((test.x.double() - torch.from_numpy(mean)).square().sum())
    numbers = {"l0": found.l0, "live": float((found.on > 0).sum()), "FVU": found.error / variance}
    numbers |= {"k = 1": probes(train, found, 1), "k = 5": probes(train, found, 5), "cosine": cosine(found, mean)}
    assert isinstance(model.decoder, Dictionary)
    return numbers, model.decoder.weight.detach().numpy()[found.on > 0]


def trained(name: str, l0: float, seed: int, parts: Parts, asked: argparse.Namespace) -> tuple[Autoencoder, float]:
    """Train a preset, or find it again; and the minutes that it took."""
    settings = {"model.latent_dim": asked.width, "train.steps": asked.steps, "train.batch_size": asked.batch}
    settings |= {"train.seed": seed, "train.target_l0": l0, "train.log_every": 500, "data.scale": "whole"}
    config = changed(Config(), settings | PRESETS[name][1])
    config = resolve(without(config, unused(config)), parts.data)
    folder = asked.out / f"{name}-{l0:g}-{key(config, parts.data)}"
    if not runs.is_finished(folder):
        vsc.train(
            parts.data, config, folder, resume=runs.is_run(folder), tell=lambda said: print(said, file=sys.stderr)
        )
    return runs.load(folder), runs.read_history(folder)[-1]["seconds"] / 60


def rows(parts: Parts, asked: argparse.Namespace) -> Iterator[list[str]]:
    """Yield a line of the table for each number of latents on and each model."""
    for l0, name in itertools.product(asked.l0, asked.models):
        made = [trained(name, l0, seed, parts, asked) for seed in range(asked.seeds)]
        for sweeps in (0, 1) if made[0][0].refines and isinstance(made[0][0].decoder, Dictionary) else (0,):
            found, directions = [], []
            for model, minutes in made:
                model.sweeps = sweeps
                numbers, live = measured(model, parts)
                found.append(numbers | {"minutes": minutes})
                directions.append(live)
            columns = {column: [one[column] for one in found] for column in found[0]}
            columns["stable"] = [stability(cosines(a, b)) for a, b in itertools.combinations(directions, 2)]
            title = PRESETS[name][0] + ", one sweep" * sweeps
            yield [f"{l0:g}", title, *(cell(columns[column], form) for column, form in COLUMNS.items())]


COLUMNS = {"l0": ".1f", "live": ".0f", "FVU": ".3f", "k = 1": ".3f", "k = 5": ".3f", "cosine": ".3f", "stable": ".2f"}
COLUMNS |= {"minutes": ".1f"}


def cell(values: list[float], form: str) -> str:
    """Write a mean and a standard deviation."""
    if not values:
        return "–"
    deviation = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--l0", type=float, nargs="+", default=(8, 16, 32, 64))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=Path("runs/activations"))
    asked = parser.parse_args()
    start = time.time()
    lines = []
    try:
        parts = parted(asked.folder, asked.rows)
        print(f"{len(parts.data.train)} rows to train on, {len(parts.data.test)} held out", file=sys.stderr)
        for row in rows(parts, asked):
            print(*row, sep="  ", file=sys.stderr, flush=True)
            lines.append(row)
    except UsageError as error:
        sys.exit(f"error: {error}")
    print("\n".join(markdown(["asked", "model", *COLUMNS], lines)))
    print(f"{time.time() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
