"""Codes go to their files a batch at a time: the same as all at once, in bounded memory, whole or not at all."""

import json
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import vsc
from vsc.cli import codes as written
from vsc.cli.running import main
from vsc.model import Codes


def parts(count, J=7, empty=False):
    """Return so many parts of codes of 5 rows each, and the same joined; a row and a latent are never on."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        gamma, mu = (torch.from_numpy(rng.normal(0.5, 0.5, (5, J)).astype(np.float32)) for _ in range(2))
        gamma = gamma.clamp(0, 1) * (not empty)
        gamma[1], gamma[:, 2] = 0, 0
        made.append(Codes(gamma * mu, gamma, mu))
    return made, Codes(*(torch.cat(part) for part in zip(*made, strict=True)))


@pytest.mark.parametrize("count", [1, 4])
def test_every_kind_of_file_holds_what_its_parts_do(tmp_path, count):
    made, whole = parts(count)
    known = {"row": np.array([f"r{i}" for i in range(5 * count)]), "label": np.arange(5 * count) % 2}
    for kind in written.WRITERS:
        written.write(tmp_path / f"codes{kind}", iter(made), known)
    with np.load(tmp_path / "codes.npz") as found:
        assert sorted(found) == ["gamma", "hard", "mu", "rows", "y", "z"]
        for name in ("z", "hard", "gamma", "mu"):
            np.testing.assert_array_equal(found[name], getattr(whole, name))
        assert (found["rows"].tolist(), found["y"].tolist()) == (known["row"].tolist(), known["label"].tolist())
    csr = sparse.load_npz(tmp_path / "codes.csr.npz")
    expected = sparse.csr_matrix(whole.hard.numpy())
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(csr, name), getattr(expected, name))
        assert getattr(csr, name).dtype == getattr(expected, name).dtype
    assert (type(csr), csr.shape) == (type(expected), expected.shape)
    for frame in (pd.read_csv(tmp_path / "codes.csv"), pd.read_parquet(tmp_path / "codes.parquet")):
        assert list(frame) == ["row", "label", *(f"latent_{j}" for j in range(7))]
        assert (list(frame["row"]), list(frame["label"])) == (list(known["row"]), list(known["label"]))
        np.testing.assert_allclose(frame.filter(like="latent"), whole.hard, rtol=1e-6)


def test_a_code_that_is_never_on_is_an_empty_matrix(tmp_path):
    written.write(tmp_path / "codes.csr.npz", parts(2, empty=True)[0], {"row": np.arange(10)})
    csr = sparse.load_npz(tmp_path / "codes.csr.npz")
    assert (csr.shape, csr.nnz) == ((10, 7), 0)


@pytest.mark.parametrize("kind", [".npz", ".csr.npz", ".csv"])
def test_what_is_written_is_not_kept(tmp_path, kind):
    seen, alive = [], []

    def passing():
        for _ in range(6):
            alive.append(sum(one() is not None for one in seen))
            (one,), _ = parts(1)
            seen.append(weakref.ref(one.mu))
            yield one

    written.write(tmp_path / f"codes{kind}", passing(), {"row": np.arange(30)})
    assert max(alive) <= 1


@pytest.mark.parametrize("kind", [".npz", ".csr.npz", ".csv", ".parquet"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, vsc.RunError])
def test_what_is_stopped_leaves_what_was_there(tmp_path, kind, stop):
    def stopped():
        yield from parts(2)[0]
        raise stop

    path = tmp_path / f"codes{kind}"
    path.write_text("before")
    with pytest.raises(stop):
        written.write(path, stopped(), {"row": np.arange(15)})
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_that_must_be_whole_in_memory_is_not_made_of_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(written, "MOST", 4 * 7 * 10)
    written.write(tmp_path / "codes.parquet", parts(2)[0], {"row": np.arange(10)})
    with pytest.raises(vsc.UsageError, match=r"too many for one table: let --out end in \.csr\.npz"):
        written.write(tmp_path / "more.parquet", parts(3)[0], {"row": np.arange(15)})
    assert [path.name for path in tmp_path.iterdir()] == ["codes.parquet"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide") / "run"
    x = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    vsc.train(x, vsc.preset("vsc-linear", {"model.latent_dim": 40, "train.steps": 2}), folder, tell=lambda said: None)
    return folder


def shards(folder, change=lambda x: x):
    """Write three shards of half precision, the second changed."""
    x = np.random.default_rng(1).normal(size=(3, 1500, 6)).astype(np.float16)
    folder.mkdir()
    for i, one in enumerate(x):
        np.save(folder / f"part-{i}.npy", change(one) if i == 1 else one)
    return np.concatenate(x)


def test_shards_are_encoded_from_the_disk(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vsc.data.reading.AT_ONCE", 0)
    x = shards(tmp_path / "data")
    assert main(["encode", str(run), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "c.csr.npz")]) == 0
    hard = vsc.load(run).encode(x).hard.numpy()
    np.testing.assert_allclose(sparse.load_npz(tmp_path / "c.csr.npz").toarray(), hard, rtol=1e-5, atol=1e-6)
    assert f"4500 codes of 40 latents, {(hard != 0).sum(1).mean():.1f} of them on" in capsys.readouterr().out


def test_codes_are_refined_where_it_is_asked_for(run, tmp_path, capsys):
    x, out = shards(tmp_path / "data"), str(tmp_path / "c.npz")
    asked = ["--data", str(tmp_path / "data"), "--out", out, "--refine"]
    assert main(["encode", str(run), *asked, "2"]) == 0
    said = capsys.readouterr().out
    model = vsc.load(run)
    plain = model.encode(x).gamma
    rows = model.scaler(torch.from_numpy(x.astype(np.float32)))
    left = vsc.metrics.fvu(rows.numpy(), model.decode(model.encode(x).hard).detach().numpy())
    assert f"in place of {left:.3f} (the first 4500 rows" in said
    model.sweeps = 2
    with np.load(out) as found:
        np.testing.assert_allclose(found["gamma"], model.encode(x).gamma, atol=1e-5)
        assert not np.allclose(found["gamma"], plain, atol=1e-2)
    assert main(["encode", str(run), *asked, "-1"]) == 2
    assert "refine must be at least 0, not -1" in capsys.readouterr().err
    config = vsc.preset("vae", {"model.latent_dim": 4, "train.steps": 1})
    vsc.train(x[:100], config, tmp_path / "vae", tell=lambda said: None)
    assert main(["encode", str(tmp_path / "vae"), *asked, "1"]) == 2
    assert "only a VSC refines its codes; leave out --refine" in capsys.readouterr().err


def test_refined_codes_are_measured_beside_the_encoders(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32))
    folder = tmp_path / "run"
    asked = ["--data", str(tmp_path / "x.npy"), "--model", "vsc-linear", "--latent-dim", "20", "--steps", "5"]
    assert main(["train", *asked, "--out", str(folder)]) == 0
    assert main(["evaluate", str(folder)]) == 0
    own = (folder / "results.json").read_bytes()
    assert main(["evaluate", str(folder), "--refine", "2", "--metrics", "fvu"]) == 0
    assert f"Written to {folder / 'results-refined.json'}" in capsys.readouterr().out
    assert (folder / "results.json").read_bytes() == own
    assert main(["evaluate", str(folder), "--refine", "2", "--iwae", "5"]) == 2
    assert "draws from the encoder, not refined" in capsys.readouterr().err
    refined = json.loads((folder / "results-refined.json").read_text())
    assert refined["scores"]["elbo"] > json.loads(own)["scores"]["elbo"]  # no sweep lowers it
    model, test = vsc.load(folder), vsc.load_data(tmp_path / "x.npy").test.x
    model.sweeps = 2
    back = model.scaler.inverse(model.decode(model.encode(test).hard)).detach().numpy()
    assert refined["metrics"]["fvu"] == pytest.approx(vsc.metrics.fvu(test.numpy(), back), rel=1e-4)


def holed(x):
    x[1207, 3] = np.nan
    return x


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (holed, "part-1.npy holds NaN or infinite values, the first at [1207, 3]"),
        (lambda x: x[:, :5], "examples of part-1.npy have shape (5,), those of part-0.npy (6,)"),
        (lambda x: 20 * x, "the scale drifts: root mean square"),
    ],
)
def test_shards_that_do_not_fit_are_told_in_one_line(run, tmp_path, capsys, monkeypatch, change, said):
    monkeypatch.setattr("vsc.data.reading.AT_ONCE", 0)
    shards(tmp_path / "data", change)
    assert main(["encode", str(run), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "c.csr.npz")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert len(err) < 300
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


MEASURED = """
import resource, sys
from vsc.cli.running import main
words = ["encode", sys.argv[1], "--data", sys.argv[2], "--out", sys.argv[3]]
import vsc.measure.scores, vsc.training.loop, torch, scipy.sparse
torch.randn(1024, 64) @ torch.randn(64, 1536)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert main(words) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="kilobytes are Linux's")
def test_codes_of_many_rows_take_little_memory(tmp_path):
    x = np.random.default_rng(0).normal(size=(50_000, 64)).astype(np.float32)
    config = vsc.preset("vsc-linear", {"model.latent_dim": 512, "train.steps": 1})
    vsc.train(x[:2000], config, tmp_path / "run", tell=lambda said: None)
    np.save(tmp_path / "x.npy", x)  # 13 MB, which are read at once; all codes at once would take 300
    words = [str(tmp_path / "run"), str(tmp_path / "x.npy"), str(tmp_path / "codes.csr.npz")]
    done = subprocess.run([sys.executable, "-c", MEASURED, *words], capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) / 1000 < 120
    assert sparse.load_npz(Path(words[2])).shape == (50_000, 512)
