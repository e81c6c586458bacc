"""Models as ONNX graphs compute what the models do, whatever the batch."""

import errno
import json
import sys
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import vsc
from vsc import export
from vsc.cli.running import main
from vsc.model import MODELS
from vsc.model.nets import NETS, mlp
from vsc.settings.config import Config, ModelConfig, TrainConfig
from vsc.training.loop import train


def fails(capsys, *words, code=2):
    capsys.readouterr()
    assert main(list(words)) == code
    err = capsys.readouterr().err
    assert err.startswith("vsc: ")
    assert err.count("\n") == 1
    assert len(err) < 300
    return err


def trained(data, **settings):
    """Return a model that has seen a few batches, so that its gates and scales are no round numbers."""
    return train(data, Config(model=ModelConfig(latent_dim=5, **settings), train=TrainConfig(steps=20)))


def graph(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def agrees(model, folder, x):
    """Check both files at batches of 1 and 7 rows of stored x (N, ...) against the model's own methods."""
    encoder, decoder = graph(folder / "encoder.onnx"), graph(folder / "decoder.onnx")
    kind = {"tensor(float)": np.float32, "tensor(double)": np.float64}[encoder.get_inputs()[0].type]
    for rows in (slice(1), slice(1, 8)):
        codes = model.encode(x[rows])
        given = np.asarray(x[rows]).reshape(-1, *model.shape).astype(kind)
        gamma, mu, hard = encoder.run(["gamma", "mu", "hard"], {"x": given})
        np.testing.assert_allclose(gamma, codes.gamma, atol=1e-5)
        np.testing.assert_allclose(mu, codes.mu, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(hard, np.where(gamma > 0.5, mu, 0))
        (back,) = decoder.run(["x"], {"z": codes.z.numpy()})
        expected = model.scaler.inverse(model.decode(codes.z)).reshape(-1, *model.shape).detach()
        np.testing.assert_allclose(back, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "net"), list(zip(MODELS, cycle(NETS), strict=False)))
def test_every_kind_of_model_and_net(tiny, tmp_path, name, net):
    signals = np.random.default_rng(0).normal(size=(60, 2, 16)).astype(np.float32)
    data = vsc.from_arrays(signals) if net == "conv1d" else tiny
    model = trained(data, name=name, net=net)
    far = export.onnx(model, tmp_path)
    assert max(far.values()) < 1e-4
    agrees(model, tmp_path, data.test.x)


@pytest.mark.slow
def test_an_encoder_that_explains_away(tiny, tmp_path):
    model = train(tiny, vsc.preset("vsc-lista", {"model.latent_dim": 40, "train.steps": 20}))
    assert max(export.onnx(model, tmp_path).values()) < 1e-5
    agrees(model, tmp_path, tiny.test.x)


@pytest.mark.slow
def test_a_table_of_mixed_columns_with_missing_values(tmp_path, capsys):
    import onnx

    rng = np.random.default_rng(0)
    rows = zip(rng.normal(40, 9, 80), rng.choice(["red", "blue", ""], 80), rng.poisson(3, 80), strict=True)
    lines = ["age,colour,visits", *(f"{age:.2f},{colour},{visits}" for age, colour, visits in rows)]
    (tmp_path / "people.csv").write_text("\n".join(lines))
    run = tmp_path / "run"
    words = ["--latent-dim", "4", "--steps", "20", "--out", str(run)]
    assert main(["train", "--data", str(tmp_path / "people.csv"), *words]) == 0
    capsys.readouterr()
    assert main(["export", str(run), "--onnx"]) == 0
    assert "opset 18" in capsys.readouterr().out
    data = vsc.load_data(tmp_path / "people.csv")
    assert data.test.x[:8].isnan().any()
    agrees(vsc.load(run), run / "onnx", data.test.x)
    proto = onnx.load(run / "onnx" / "encoder.onnx")
    onnx.checker.check_model(proto)
    assert {prop.key: prop.value for prop in proto.metadata_props}["columns"] == json.dumps(data.features)
    assert [one.version for one in proto.opset_import if one.domain == ""] == [export.OPSET]
    main(["train", "--data", str(tmp_path / "people.csv"), *words, "--overwrite"])
    assert not (run / "onnx").exists()  # they were of the run that was replaced


class Twisted(nn.Module):
    """A net whose way depends on its input: half of a batch may be doubled."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x * 2 if float(x.mean()) > 0.5 else x)


@pytest.mark.slow
def test_nets_that_cannot_be_exported_are_told(tmp_path):
    encoder, decoder = mlp((6,), 15, 5, 1, (8,))
    own = vsc.VSC(Twisted(encoder), decoder, shape=(6,), latent_dim=5)
    with pytest.raises(vsc.UsageError, match=r"torch.export does not take the encoder of this model"):
        export.onnx(own, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


# ---- what needs no graph


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(tiny, Config(model=ModelConfig(latent_dim=3, hidden=(8,)), train=TrainConfig(steps=2)), folder)
    return folder


@pytest.fixture
def graphs(monkeypatch):
    """Let a graph be the name of its module: the making of a true one takes seconds."""
    monkeypatch.setattr(export, "_graph", lambda module, *_: (type(module).__name__.encode(), 0.0))


def test_modules_are_the_models_own_methods(tiny):
    model = trained(tiny)
    x = tiny.test.x[:3]
    codes = model.encode(x)
    with torch.no_grad():
        for ours, theirs in zip(
            export.Encoder(model)(x.float().reshape(3, 1, 8, 8)), (codes.gamma, codes.mu, codes.hard), strict=True
        ):
            torch.testing.assert_close(ours, theirs)
        expected = model.scaler.inverse(model.decode(codes.z)).reshape(3, 1, 8, 8)
        torch.testing.assert_close(export.Decoder(model)(codes.z), expected)


def test_both_files_or_neither(graphs, run, tmp_path, monkeypatch, capsys):
    assert main(["export", str(run), "--onnx", "--out", str(tmp_path / "a")]) == 0
    assert {path.name: path.read_text() for path in (tmp_path / "a").iterdir()} == {
        "encoder.onnx": "Encoder",
        "decoder.onnx": "Decoder",
    }
    write = Path.write_bytes

    def full(path, raw):
        if b"Decoder" in raw:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, raw)

    monkeypatch.setattr(Path, "write_bytes", full)
    line = fails(capsys, "export", str(run), "--onnx", "--out", str(tmp_path / "b"), code=1)
    assert "No space left on device" in line
    assert "/b/" in line
    assert list((tmp_path / "b").iterdir()) == []


def test_where_nothing_can_be_written(graphs, run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "is a file's name" in fails(capsys, "export", str(run), "--onnx", "--out", str(tmp_path / "file"))
    assert "is a file's name" in fails(capsys, "export", str(run), "--onnx", "--out", "model.onnx")
    assert "Not a directory" in fails(
        capsys, "export", str(run), "--onnx", "--out", str(tmp_path / "file" / "a"), code=1
    )


def test_the_format_is_said(run, capsys):
    assert "--onnx" in fails(capsys, "export", str(run))


@pytest.mark.parametrize("library", ["onnxscript", "onnxruntime"])
def test_the_extra_is_named_where_it_is_missing(run, capsys, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    assert "variational-sparse-coding[onnx]" in fails(capsys, "export", str(run), "--onnx")


class Session:
    """A graph that computes something else."""

    def __init__(self, gamma):
        self.gamma = gamma

    def run(self, names, given):
        return [np.full((2, 3), self.gamma, dtype=np.float32) for _ in names]


class Same(nn.Module):
    outputs = ("gamma", "mu", "hard")

    def forward(self, x):
        return x, x, x


def test_a_graph_that_computes_something_else_is_not_written():
    half = torch.full((2, 3), 0.5)
    assert export._difference(Session(0.5), Same(), "x", half) == 0
    assert export._difference(Session(0.5 + 1e-5), Same(), "x", half) == pytest.approx(1e-5, rel=0.01)
    for wrong in (0.6, np.nan):
        with pytest.raises(vsc.RunError, match="off by"):
            export._difference(Session(wrong), Same(), "x", half)
