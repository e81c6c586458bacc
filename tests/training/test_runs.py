"""The run folder: complete, loadable, safe to overwrite, and no pickle in it is ever read."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import threading
import zipfile
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

from vsc.errors import RunError, UsageError
from vsc.model import MODELS
from vsc.model.priors import GATES, SELECTORS, SLABS
from vsc.settings import build
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.settings.resolve import resolve, unused_by_model, without
from vsc.training import runs
from vsc.training.loop import train

SETTINGS = Config(
    DataConfig("tiny"),
    ModelConfig("vsc", latent_dim=4, hidden=(16, 8), likelihood="bernoulli"),
    TrainConfig(steps=6, batch_size=16, log_every=2, valid_every=3, checkpoint_every=2, device="cpu"),
)


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(tiny, SETTINGS, folder)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- what is there


def test_a_run_leaves_the_files_that_it_should(run):
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    trained = {"config.yaml", "environment.json", "metrics.jsonl", "checkpoints/last.pt"}
    assert found == trained | {"model/config.json", "model/model.safetensors"}
    assert found <= set(runs.FILES)


def test_environment_says_what_a_result_depends_on(run):
    found = json.loads((run / "environment.json").read_text())
    assert found["torch"] == torch.__version__
    assert {"python", "numpy", "system", "threads", "cuda", "lightning-fabric"} <= found.keys()


def test_the_saved_settings_are_resolved_plain_yaml_and_come_back_equal(run, tiny):
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["model"]["hidden"] == [16, 8]
    assert saved["data"]["scale"] == "unit-interval"
    assert runs.read_config(run) == resolve(SETTINGS, tiny)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "gaussian-fixed"])
def test_a_loaded_model_gives_the_same_codes(tiny, tmp_path, name, likelihood):
    settings = replace(SETTINGS, model=replace(SETTINGS.model, name=name, likelihood=likelihood))
    model = train(tiny, settings, tmp_path / "run")
    for path in (tmp_path / "run", str(tmp_path / "run" / "model")):
        loaded = runs.load(path)
        assert type(loaded) is type(model)
        assert not loaded.training
        for ours, theirs in zip(model.encode(tiny.test.x), loaded.encode(tiny.test.x), strict=True):
            assert torch.equal(ours, theirs)
        z = model.encode(tiny.test.x).hard
        assert torch.equal(model.decode(z), loaded.decode(z))


PRIORS = [
    *((gates, slab, "optimal") for gates in GATES for slab in SLABS if GATES[gates].mixture or slab != "own"),
    *(("mixture", "own", selector) for selector in SELECTORS),
]


@pytest.mark.parametrize(("gates", "slab", "selector"), PRIORS)
def test_a_loaded_model_has_the_same_prior(tiny, tmp_path, gates, slab, selector):
    settings = replace(SETTINGS.model, gates=gates, slab=slab, selector=selector, components=5, nu=3.0, slab_mean=1.5)
    asked = replace(SETTINGS, model=settings)
    model = train(tiny, without(asked, unused_by_model(settings)), tmp_path / "run")
    loaded = runs.load(tmp_path / "run")
    found = []
    for one in (model, loaded):
        torch.manual_seed(0)
        x = one.scaler(tiny.test.x)
        with torch.no_grad():
            found.append([*one(x), one.sample(3), one.log_weights(x, 2)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_pseudo_inputs_start_at_training_examples(tiny):
    settings = replace(SETTINGS.model, gates="pseudo-inputs", components=5)
    model = build.new_model(resolve(replace(SETTINGS, model=settings), tiny), tiny)
    examples = model.scaler(tiny.train.x)
    for pseudo in model.prior.gates.pseudo_inputs:
        assert (examples == pseudo).all(1).any()
    assert len(model.prior.gates.pseudo_inputs.unique(dim=0)) == 5


@pytest.mark.parametrize("scale", ["standard", "unit-norm"])
def test_a_loaded_model_scales_as_in_training(tiny, tmp_path, scale):
    model = replace(SETTINGS.model, likelihood="gaussian")
    ours = train(tiny, replace(SETTINGS, data=replace(SETTINGS.data, scale=scale), model=model), tmp_path / "run")
    assert torch.equal(runs.load(tmp_path / "run").encode(tiny.test.x).mu, ours.encode(tiny.test.x).mu)


def test_loading_needs_nothing_but_the_model_folder(run, tmp_path):
    (run / "model").rename(tmp_path / "sent")
    assert runs.load(tmp_path / "sent").latent_dim == 4


def test_what_is_no_run_says_so(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UsageError, match="no trained model"):
            runs.load(path)
        with pytest.raises(UsageError, match="not a run folder"):
            runs.read_config(path)
    with pytest.raises(UsageError, match=r"is not a run folder: it has no config\.yaml"):
        runs.load(tmp_path)
    with pytest.raises(UsageError, match="it does not exist"):
        runs.read_config(tmp_path / "nothing")


# ---- pickles


def test_a_foreign_pickle_is_never_read_as_a_checkpoint(run, tiny, tmp_path):
    trap, last = tmp_path / "trap", run / "checkpoints" / "last.pt"
    (run / "model" / "config.json").unlink()  # so that a resume has something to do
    bomb = {"format": runs.FORMAT, "model": Bomb(trap)}
    legacy, zipped = tmp_path / "legacy.pt", tmp_path / "zipped.pt"
    torch.save(bomb, legacy, _use_new_zipfile_serialization=False)
    torch.save(bomb, zipped)
    for payload in (pickle.dumps(bomb), legacy.read_bytes(), zipped.read_bytes()):
        last.write_bytes(payload)
        with pytest.raises(RunError, match="damaged or not ours") as caught:
            train(tiny, SETTINGS, run, resume=True)
        assert str(last) in one_line(caught)
        assert not trap.exists()
    pickle.loads(pickle.dumps(Bomb(trap))).close()  # the bomb itself is live
    assert trap.exists()


def test_a_foreign_pickle_is_never_read_as_a_model(run, tmp_path):
    trap = tmp_path / "trap"
    torch.save({"model": Bomb(trap)}, run / "model" / "model.safetensors")
    with pytest.raises(RunError, match="damaged or not ours") as caught:
        runs.load(run)
    one_line(caught)
    (run / "model" / "config.json").write_bytes(pickle.dumps(Bomb(trap)))
    with pytest.raises(RunError, match="damaged or not ours") as caught:
        runs.load(run)
    one_line(caught)
    assert not trap.exists()


def test_yaml_tags_that_build_objects_are_refused(run, tmp_path):
    trap = tmp_path / "trap"
    (run / "config.yaml").write_text(f"data: !!python/object/apply:builtins.open [{trap}, w]\n")
    with pytest.raises(UsageError, match="damaged") as caught:
        runs.read_config(run)
    one_line(caught)
    assert not trap.exists()


# ---- damage


def damaged(path):
    """Yield the file cut off, empty, with random bytes, and with bits flipped here and there."""
    whole = path.read_bytes()
    yield whole[: len(whole) // 2]
    yield whole[:-1]
    yield b""
    yield bytes(range(256)) * 4
    for share in (0.31, 0.52, 0.83):
        flipped = bytearray(whole)
        flipped[int(share * len(whole))] ^= 0x10
        yield bytes(flipped)


def test_a_damaged_checkpoint_is_refused(run):
    path = run / "checkpoints" / "last.pt"
    with zipfile.ZipFile(path) as archive:  # between its parts there is padding, which no one reads
        start = max(archive.infolist(), key=lambda part: part.file_size).header_offset
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[start + 1000] ^= 0x10
    for content in (whole[: len(whole) // 2], whole[:-1], b"", bytes(range(256)) * 4, bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(RunError, match="damaged or not ours") as caught:
            runs.load_checkpoint(path)
        one_line(caught)


def test_damaged_weights_are_refused(run):
    path = run / "model" / "model.safetensors"
    for content in list(damaged(path)):
        path.write_bytes(content)
        with pytest.raises(RunError, match="damaged or not ours") as caught:
            runs.load(run)
        one_line(caught)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[]", b"{}", b'{"model": 3}', b'{"model": {"hidden": 3}}', b"\xff\xfe"]
)
def test_a_damaged_model_description_is_refused(run, content):
    (run / "model" / "config.json").write_bytes(content)
    with pytest.raises(RunError, match="damaged or not ours") as caught:
        runs.load(run)
    one_line(caught)


@pytest.mark.parametrize("name", ["high", "relaxation", "binarise"])
@pytest.mark.parametrize("value", ["255", [1], -1])
def test_what_a_description_keeps_beside_the_settings_is_checked(run, name, value):
    path = run / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(RunError, match=f"damaged or not ours: {name} is ") as caught:
        runs.load(run)
    one_line(caught)


@pytest.mark.parametrize("change", [torch.Tensor.char, lambda shift: shift[:0]])
def test_a_scaling_that_does_not_fit_is_refused(run, change):
    path = run / "model" / "model.safetensors"
    weights = tensors_of(path.read_bytes())
    weights["scaler.shift"] = change(weights["scaler.shift"])
    path.write_bytes(bytes_of(weights))
    about = json.loads((run / "model" / "config.json").read_text())
    about["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (run / "model" / "config.json").write_text(json.dumps(about))
    with pytest.raises(RunError, match=r"scaler\.shift is torch\.") as caught:
        runs.load(run)
    one_line(caught)


def test_a_description_of_another_model_is_refused(run):
    path = run / "model" / "config.json"
    for key, value in {"latent_dim": 5, "name": "nope", "hidden": [16], "likelihood": "gaussian", "extra": 1}.items():
        described = json.loads(path.read_text())
        described["model"][key] = value
        (run / "other").mkdir(exist_ok=True)
        (run / "other" / "config.json").write_text(json.dumps(described))
        (run / "other" / "model.safetensors").write_bytes((run / "model" / "model.safetensors").read_bytes())
        with pytest.raises(RunError, match="damaged or not ours") as caught:
            runs.load(run / "other")
        one_line(caught)


@pytest.mark.parametrize(
    "content",
    [b"", b"data: [", b"3", b"[]", b"data: {}\nmodel: {}\ntrain: {}", b"\xff\xfe", b"data: 1\nmodel: 2\ntrain: 3"],
)
def test_damaged_settings_are_refused(run, content):
    (run / "config.yaml").write_bytes(content)
    with pytest.raises(UsageError, match=r"config\.yaml is damaged") as caught:
        runs.read_config(run)
    one_line(caught)


def test_settings_out_of_range_are_refused(run):
    text = (run / "config.yaml").read_text()
    for good, bad in {"steps: 6": "steps: 0", " lr: ": " lr: x", "cap: ": "cap: 2", "name: vsc": "nome: vsc"}.items():
        assert good in text
        (run / "config.yaml").write_text(text.replace(good, bad))
        with pytest.raises(UsageError) as caught:
            runs.read_config(run)
        one_line(caught)


def test_a_checkpoint_that_lacks_parts_or_fits_another_model_is_refused(run, tiny):
    (run / "model" / "config.json").unlink()
    path = run / "checkpoints" / "last.pt"
    whole = torch.load(path, weights_only=True)
    for part in whole.keys() - {"format", "device"}:
        runs.save_checkpoint(path, {name: value for name, value in whole.items() if name != part})
        with pytest.raises(RunError, match="does not fit the run") as caught:
            train(tiny, SETTINGS, run, resume=True)
        one_line(caught)
    runs.save_checkpoint(path, whole | {"model": {"a": torch.zeros(1)}})
    with pytest.raises(RunError, match="does not fit the run") as caught:
        train(tiny, SETTINGS, run, resume=True)
    one_line(caught)
    runs.save_checkpoint(path, whole | {"rng": whole["rng"].repeat(2, 1)})
    with pytest.raises(UsageError, match="had 2 processes"):
        train(tiny, SETTINGS, run, resume=True)
    for state in ([1], {"format": 999}, {}):
        torch.save(state, path)
        with pytest.raises(RunError, match="not one of ours"):
            runs.load_checkpoint(path)


def test_history_leaves_out_lines_that_are_cut_off_or_damaged(run):
    path = run / "metrics.jsonl"
    before = runs.read_history(run)
    assert len(before) == 5
    path.write_bytes(b"\xff\xfe\n3\n[]\n{}\n\n" + path.read_bytes() + b'{"step": 6, "sp')
    assert runs.read_history(run) == before
    path.unlink()
    assert runs.read_history(run) == []


# ---- overwriting


def test_an_existing_run_is_refused_and_left_as_it_is(run, tiny):
    before = {path: path.read_bytes() for path in run.rglob("*.*")}
    with pytest.raises(UsageError, match=r"--resume.*--overwrite"):
        train(tiny, SETTINGS, run)
    assert {path: path.read_bytes() for path in run.rglob("*.*")} == before


def test_overwrite_replaces_a_run_and_nothing_else(run, tiny):
    (run / "results.json").write_text("{}")
    (run / "report.html").write_text("old")
    (run / "codes.npz").write_text("mine")
    (run / "model" / "notes.txt").write_text("mine")
    (run / "checkpoints" / ".last.77.tmp.pt").write_text("left by a kill")
    train(tiny, replace(SETTINGS, train=replace(SETTINGS.train, steps=4)), run, overwrite=True)
    assert runs.read_config(run).train.steps == 4
    assert {row["step"] for row in runs.read_history(run)} == {2, 3, 4}
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {"codes.npz", "model/notes.txt"} <= found
    assert not found & {"results.json", "report.html", "checkpoints/.last.77.tmp.pt"}


@pytest.mark.parametrize("files", [["thesis.tex"], ["config.yaml", "main.py"], ["environment.json"], ["a/config.yaml"]])
def test_overwrite_never_touches_a_folder_that_is_not_a_run(tiny, tmp_path, files):
    for name in files:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text("dear to me")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="exists and is not a run folder"):
            train(tiny, SETTINGS, tmp_path / "mine", overwrite=overwrite)
    assert {path.name for path in (tmp_path / "mine").rglob("*.*")} == {name.split("/")[-1] for name in files}


def test_overwrite_of_a_file_is_refused_and_an_empty_folder_is_fine(tiny, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="not a run folder"):
        train(tiny, SETTINGS, tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    train(tiny, SETTINGS, tmp_path / "empty")
    assert runs.is_finished(tmp_path / "empty")


# ---- folders that cannot be written


def test_a_folder_that_cannot_be_made(tiny, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        train(tiny, SETTINGS, tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "mine"


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["pathlib.Path.write_bytes", "os.replace"])
def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(tiny, tmp_path, monkeypatch, call):
    folder, save = tmp_path / "run", runs.save_checkpoint

    def fill_up(path, state):
        if state["progress"]["step"] == 4:
            monkeypatch.setattr(call, full)
        save(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_checkpoint", fill_up)
        with pytest.raises(OSError, match="No space left") as caught:
            train(tiny, SETTINGS, folder)
    monkeypatch.undo()
    assert caught.value.filename == str(folder / "checkpoints" / "last.pt")
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.pt"]
    assert runs.load_checkpoint(folder / "checkpoints" / "last.pt")["progress"]["step"] == 2
    train(tiny, SETTINGS, folder, resume=True)  # once there is room again
    assert runs.is_finished(folder)


def test_a_disk_that_is_full_when_bytes_arrive_is_told_as_such(tmp_path):
    device = "/dev/full"
    if not os.path.exists(device) or os.path.isfile(device):
        pytest.skip(f"needs {device}")
    state = {"format": runs.FORMAT, "weights": torch.randn(1000, 100)}
    path = tmp_path / "last.pt"
    with zipfile.ZipFile(path, "w"):
        pass
    before = path.read_bytes()
    temporary = path.with_name(f".last.{os.getpid()}-{threading.get_ident()}.tmp.pt")
    temporary.symlink_to(device)  # writing to the temporary name finds the disk full
    with pytest.raises(OSError, match="No space left") as caught:
        runs.save_checkpoint(path, state)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_that_cannot_be_saved_whole_is_not_taken_for_finished(tiny, tmp_path, monkeypatch):
    folder, write = tmp_path / "run", runs.write_json

    def fail_on_description(path, value):
        if path.name == "config.json":
            full()
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_json", fail_on_description)
        with pytest.raises(OSError, match="No space left"):
            train(tiny, SETTINGS, folder)
    assert not runs.is_finished(folder)
    for where, told in ((folder, "finish its run with"), (tmp_path, f"give a run in it: {folder}")):
        with pytest.raises(UsageError, match=told):
            runs.load(where)
    with pytest.raises(UsageError, match=f"give a run in it: {folder}"):
        runs.read_config(tmp_path)
    train(tiny, SETTINGS, folder, resume=True)
    assert runs.load(folder).latent_dim == 4
