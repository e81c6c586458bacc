"""`vsc.SparseCoder` against the sparse coders of scikit-learn, at equal non-zeros per row, on rows held out.

usage: python benchmarks/coders.py [digits faces steps] [--seeds 3]

Every coder has J = 64 latents or atoms, and a quarter of the rows is held out, another one for each seed. Below
SparseCoder, at its default, stand rivals with as many non-zeros per row as it has on average on the training rows:
dictionaries, which code by orthogonal matching pursuit, their alpha the one of `ALPHAS` that reconstructs a fifth of
the training rows best, and so many principal components. Columns: non-zeros per row; squared error of the
reconstruction as a share of the variance; accuracy of a logistic regression on the codes, its C chosen on training
rows; seconds of one core to fit, without these choices, and to code the held-out rows.

`steps` compares the ELBO on the validation rows, nats, of SparseCoder's own number of steps with that of the
library's, 2000, both with early stopping.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import skimage.data
import sklearn.datasets
from numpy.typing import NDArray
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning, SparsePCA, sparse_encode
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import vsc
from vsc.cli.tables import markdown

Array = NDArray[np.float64]
J, ALPHAS = 64, (0.001, 0.01, 0.1, 0.3, 1.0, 3.0)


class Coder(NamedTuple):
    """A fitted coder: rows -> codes (N, J), and codes -> rows."""

    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]


def ours(x: Array, seed: int) -> Coder:
    coder = vsc.SparseCoder(J, random_state=seed).fit(x)
    return Coder(coder.transform, coder.inverse_transform)


def dictionary(x: Array, seed: int, alpha: float) -> Array:
    found = MiniBatchDictionaryLearning(J, alpha=alpha, fit_algorithm="cd", random_state=seed)
    return found.fit(x - x.mean(0)).components_


def sparse_pca(x: Array, seed: int, alpha: float) -> Array:
    return SparsePCA(J, alpha=alpha, method="cd", max_iter=100, random_state=seed).fit(x).components_


RIVALS = {"MiniBatchDictionaryLearning": dictionary, "SparsePCA": sparse_pca}


def pursuit(x: Array, atoms: Array, k: int) -> Coder:
    """Code what a row has beyond the mean of rows x with k of some atoms (J, M)."""
    mean, atoms = x.mean(0), atoms[np.linalg.norm(atoms, axis=1) > 0]
    atoms = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    k = min(k, len(atoms))
    return Coder(
        lambda rows: sparse_encode(rows - mean, atoms, algorithm="omp", n_nonzero_coefs=k), lambda z: z @ atoms + mean
    )


def pca(x: Array, k: int) -> Coder:
    found = PCA(k).fit(x)
    return Coder(found.transform, found.inverse_transform)


def unexplained(coder: Coder, x: Array, mean: Array) -> float:
    """Return the squared error of reconstructed rows as a share of that of the mean."""
    return float(((coder.decode(coder.encode(x)) - x) ** 2).sum() / ((x - mean) ** 2).sum())


def probe(train: Array, y: Array, test: Array, truth: Array) -> float:
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    grid = GridSearchCV(regression, {"logisticregression__C": [0.001, 0.01, 0.1, 1.0]}, cv=3).fit(train, y)
    return float(grid.score(test, truth))


class Parts(NamedTuple):
    """One division of rows and their classes."""

    x: Array
    test: Array
    y: Array
    truth: Array

    def measured(self, fit: Callable[[], Coder]) -> tuple[float, ...]:
        """Return the columns of the table for a coder."""
        start = time.process_time()
        coder = fit()
        fitted = time.process_time()
        codes = coder.encode(self.test)
        coded = time.process_time()
        nonzeros = float((codes != 0).sum(1).mean())
        accuracy = probe(coder.encode(self.x), self.y, codes, self.truth)
        return nonzeros, unexplained(coder, self.test, self.x.mean(0)), accuracy, fitted - start, coded - fitted


def compared(parts: Parts, seed: int) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield each coder's title and numbers."""
    x = parts.x
    rows, held = train_test_split(x, test_size=0.2, random_state=seed)
    tried = {rival: {alpha: learn(rows, seed, alpha) for alpha in ALPHAS} for rival, learn in RIVALS.items()}
    k = max(1, round(float((ours(x, seed).encode(x) != 0).sum(1).mean())))
    yield "SparseCoder", parts.measured(lambda: ours(x, seed))
    for rival, learn in RIVALS.items():
        errors = {a: unexplained(pursuit(rows, atoms, k), held, rows.mean(0)) for a, atoms in tried[rival].items()}
        alpha = min(errors, key=errors.__getitem__)
        yield f"{rival} at as many", parts.measured(lambda learn=learn, a=alpha: pursuit(x, learn(x, seed, a), k))
    yield "PCA, as many components", parts.measured(lambda: pca(x, k))
    yield "the pixels", parts.measured(lambda: Coder(lambda z: z, lambda z: z))


def faces() -> tuple[Array, Array]:
    """Return scikit-image's 100 faces and 100 pieces of pictures without one, (200, 625), and which is which."""
    return skimage.data.lfw_subset().reshape(200, -1), np.repeat([1, 0], 100)


def digits() -> tuple[Array, Array]:
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    return x / 16, y


SETS = {"digits": digits, "faces": faces}
COLUMNS = (("non-zeros", ".1f"), ("unexplained", ".3f"), ("probe", ".3f"), ("fit (s)", ".1f"), ("code (s)", ".3f"))


def tables() -> dict[str, Array]:
    """Return small tables: scikit-learn's, and 500 x 20 of five dense and of ten sparse factors."""
    rows = np.random.default_rng(0)
    dense = rows.standard_normal((500, 5)) @ rows.standard_normal((5, 20)) + 0.3 * rows.standard_normal((500, 20))
    on = rows.random((500, 10)) < 0.2
    sparse = (on * rows.standard_normal((500, 10))) @ rows.standard_normal((10, 20))
    own = {"dense factors": dense, "sparse factors": sparse + 0.1 * rows.standard_normal((500, 20))}
    return own | {name: getattr(sklearn.datasets, f"load_{name}")().data for name in ("breast_cancer", "diabetes")}


def steps(seeds: int) -> Iterator[list[str]]:
    """Yield rows: a table, and for its own number of steps and 2000, the ELBO, non-zeros and seconds."""
    vsc.SparseCoder(max_iter=1).fit(next(iter(tables().values())))  # what is imported at first is not timed
    for name, x in tables().items():
        cells = [f"{name}, {x.shape[0]} x {x.shape[1]}"]
        for max_iter in (None, 2000):
            found = []
            for seed in range(seeds):
                start = time.process_time()
                coder = vsc.SparseCoder(max_iter=max_iter, random_state=seed).fit(x)
                seconds, valid = time.process_time() - start, vsc.from_arrays(x, x_test=x[:1]).valid.x.numpy()
                nonzeros = float((coder.transform(valid) != 0).sum(1).mean())
                found.append((coder.score(valid), nonzeros, float(coder.n_iter_), seconds))
            formats = (".2f", ".1f", ".0f", ".1f")
            cells += [spread(values, form) for values, form in zip(zip(*found, strict=True), formats, strict=True)]
        yield cells


def spread(values: tuple[float, ...], form: str) -> str:
    """Write a mean and a standard deviation."""
    deviation = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*SETS, "steps"])
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in asked.names:
        if name == "steps":
            heads = [f"{head}, {of}" for of in ("own", "2000") for head in ("ELBO", "non-zeros", "steps", "s")]
            print("\n".join(markdown(["", *heads], list(steps(asked.seeds)))), flush=True)
            continue
        found: dict[str, list[tuple[float, ...]]] = {}
        for seed in range(asked.seeds):
            x, y = SETS[name]()
            parts = Parts(*train_test_split(x, y, test_size=0.25, stratify=y, random_state=seed))
            for title, numbers in compared(parts, seed):
                found.setdefault(title, []).append(numbers)
        rows = [
            [title, *(spread(column, form) for column, (_, form) in zip(zip(*own, strict=True), COLUMNS, strict=True))]
            for title, own in found.items()
        ]
        print("\n".join(markdown([name, *(head for head, _ in COLUMNS)], rows)), flush=True)


if __name__ == "__main__":
    main()
