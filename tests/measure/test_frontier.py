"""Codes cut to few elements, and latents as detectors, against a model whose output is its code."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from vsc.data.split import Dataset, Split
from vsc.measure.detectors import detected
from vsc.measure.frontier import counts, frontier, keep
from vsc.measure.measured import Measured
from vsc.model import AE, VSC, Codes
from vsc.model.nets import mlp

J = 6
STEEP = torch.tensor([1.0, 1, 1, 1, 1, 8])  # how far each output moves with its latent


class Plain(AE):
    """Decodes a code to itself, each element times `STEEP`, and is given codes that it does not change."""

    def codes(self, x):
        return Codes(x / STEEP, torch.ones_like(x), x / STEEP)

    def decode(self, z):
        return z * STEEP


class Gated(VSC):
    """The same with gates: what is exactly zero is off, and what is tiny nearly on."""

    def codes(self, x):
        gamma = torch.where(x == 0, 0.1, torch.where(x.abs() < 1e-6, 0.4, 0.9))
        return Codes(x / STEEP, gamma, x / STEEP)

    def decode(self, z):
        return z * STEEP


def made(kind, z, y=None, presence=None, groups=()):
    """Measure the model on inputs that it encodes as z."""
    split = Split(torch.as_tensor(z, dtype=torch.float32) * STEEP, y, presence=presence)
    nets = mlp((J,), kind.features * J, J, 1, ())
    model = kind(*nets, shape=(J,), latent_dim=J).eval()
    return Measured(model, Dataset("plain", (J,), split, split, split, groups=groups))


@pytest.mark.parametrize(
    ("most", "also", "expected"),
    [
        (6, (), [1, 2, 3, 4, 6]),
        (7, (5,), [1, 2, 3, 4, 5, 6, 7]),
        (1, (4,), [1]),
        (0, (), [1]),
        (500, (), [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 500]),
    ],
)
def test_the_numbers_of_elements_are_few_and_end_with_all(most, also, expected):
    assert counts(most, also) == expected


def test_what_moves_the_output_most_is_kept_and_the_rest_is_at_rest():
    code, rest = torch.tensor([[3.0, -2.0, 1.0]]), torch.tensor([2.0, 0.0, 0.0])
    weight = torch.tensor([1.0, 1.0, 3.0])  # contributions 1, 2 and 3
    assert keep(code, rest, weight, 1).tolist() == [[2, 0, 1]]
    assert keep(code, rest, weight, 2).tolist() == [[2, -2, 1]]
    assert keep(code, rest, weight, 3).tolist() == code.tolist()


def test_a_dense_code_is_cut_to_its_mean_and_a_sparse_one_to_zero():
    rng = np.random.default_rng(0)
    z = rng.normal(1, 1, (50, J)).astype(np.float32)
    dense = frontier(made(Plain, z))
    steep = STEEP.numpy()
    size = np.sort(((z - z.mean(0)) * steep) ** 2, 1)[:, ::-1]  # what leaving each out costs, the largest first
    assert dense.kept.tolist() == dense.nonzeros.tolist() == [1, 2, 3, 4, 6]
    assert dense.mse == pytest.approx([size[:, k:].sum() / (50 * J) for k in dense.kept], rel=1e-4, abs=1e-9)
    assert dense.probe is None
    z[rng.random((50, J)) < 0.6] = 0
    sparse = frontier(made(Gated, z), also=(5,))
    on = (z != 0).sum(1)
    size = np.sort((z * steep) ** 2, 1)[:, ::-1]
    assert sparse.kept.tolist() == [k for k in (1, 2, 3, 4, 5, 6) if k <= on.max()]
    assert sparse.nonzeros == pytest.approx([np.minimum(on, k).mean() for k in sparse.kept])
    assert sparse.nonzeros[-1] == pytest.approx(on.mean())
    assert sparse.mse == pytest.approx([size[:, k:].sum() / (50 * J) for k in sparse.kept], rel=1e-4, abs=1e-9)
    assert sparse.at(2) == 1
    assert sparse.at(100) == len(sparse.kept) - 1
    assert dense.at(5) is None


def test_the_probe_sees_only_what_is_kept():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, J))
    y = torch.from_numpy((z[:, 0] > 0).astype(int))
    z[:, 0] *= 0.01  # tells the class, and is never among the largest
    found = frontier(made(Plain, z, y))
    assert found.probe[0] < 0.7
    assert found.probe[-1] > 0.95
    one_class = frontier(made(Plain, z, torch.zeros(200, dtype=torch.int64)))
    assert one_class.probe is None, "there is nothing to tell"


def test_a_code_that_is_always_empty_has_one_point():
    found = frontier(made(Gated, np.zeros((20, J))))
    assert (found.kept.tolist(), found.nonzeros.tolist(), found.mse.tolist()) == ([1], [0], [0])


def test_it_is_written_without_infinities():
    z = np.ones((10, J))
    plain = frontier(made(Plain, z)).plain()
    assert json.loads(json.dumps(plain, allow_nan=False))["kept"] == [1, 2, 3, 4, 6]
    far = frontier(made(Plain, z))._replace(mse=np.array([np.inf] * 5))
    assert far.plain()["mse"] == [None] * 5


def test_gates_detect_attributes_by_being_open_and_dense_latents_by_any_end():
    rng = np.random.default_rng(0)
    S = rng.random((300, 2)) < 0.4
    z = rng.normal(size=(300, J))
    z[:, 2] = np.where(S[:, 0], 1.0, 0.0)  # open exactly where the first is there
    z[:, 4] = np.where(S[:, 1] & (rng.random(300) < 0.5), -1.0, 0.0)  # open for half of those that have the second
    presence, groups = torch.from_numpy(S[:, [0, 0, 1]]), ("hat", "hat", "eyes")
    found = detected(made(Gated, z, presence=presence, groups=groups))
    assert (found.names, found.classes, found.best.latent.tolist()) == (("hat", "eyes"), False, [2, 4])
    assert found.share == pytest.approx(S.mean(0))
    assert found.best.auroc == pytest.approx([1, roc_auc_score(S[:, 1], z[:, 4] != 0)])
    assert found.best.hits == pytest.approx([1, (z[S[:, 1], 4] != 0).mean()])
    assert found.best.alarms.tolist() == [0, 0]
    assert found.best.precision.tolist() == [1, 1]
    dense = detected(made(Plain, z, presence=presence, groups=groups))
    assert dense.best.latent.tolist() == [2, 4]
    assert dense.best.auroc[1] == pytest.approx(roc_auc_score(S[:, 1], -z[:, 4])), "downwards"
    assert dense.best.hits is None
    rows = dense.plain()
    assert [row["name"] for row in rows] == ["hat", "eyes"]
    assert rows[0]["hits"] is None
    json.dumps(found.plain(), allow_nan=False)


def test_a_gate_that_never_opens_detects_nothing():
    there = np.arange(100) < 50
    z = np.zeros((100, J))
    z[:, 1] = np.where(there, 1e-7, 0)  # tells it without fail, and is never on
    z[:, 3] = np.where(there & (np.arange(100) % 2 == 0), 1, 0)
    found = detected(made(Gated, z, presence=torch.from_numpy(there[:, None])))
    assert found.best.latent.tolist() == [3]
    assert found.best.hits.tolist() == [0.5]
    z[:, 3] = 0
    assert detected(made(Gated, z, presence=torch.from_numpy(there[:, None]))).best.auroc.tolist() == [0.5]


def test_classes_are_detected_where_no_attribute_is_known_and_nothing_without_either():
    y = torch.arange(30) % 3
    z = np.eye(J)[y.numpy()]
    found = detected(made(Gated, z, y=y))
    assert (found.names, found.classes, found.best.latent.tolist()) == (("0", "1", "2"), True, [0, 1, 2])
    assert found.best.auroc.tolist() == [1, 1, 1]
    assert detected(made(Gated, z)) is None
