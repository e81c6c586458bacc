"""Models to a hub and back, by a small server that speaks as much of the hub's protocol as is needed."""

import base64
import hashlib
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import vsc
from vsc import hub
from vsc.cli.running import main
from vsc.data import npz
from vsc.measure import results
from vsc.model.nets import mlp
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.training import runs
from vsc.training.loop import train

constants = pytest.importorskip("huggingface_hub.constants")
TOKEN = "hf_secret"


class Answers(BaseHTTPRequestHandler):
    """One request to the hub; `server.repos` is what is kept there: name -> (private, [files of each commit])."""

    def log_message(self, *_):
        pass

    def answer(self, status=200, body=None, **headers):
        raw = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(raw), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def known(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            front = yaml.safe_load(json.loads(raw)["content"].split("---")[1])
            return self.answer(
                200 if front["license"] in ("other", "apache-2.0") else 400,
                {"errors": [{"message": "license is unknown"}]},
            )
        if not self.known():
            return self.answer(401, {"error": "Invalid user token."})
        if self.server.broken:
            return self.answer(500, {"error": "out of order"})
        if self.path == "/api/repos/create":
            asked = json.loads(raw)
            if asked["organization"] != "me":
                return self.answer(403, {"error": "not yours"})
            name = f"me/{asked['name']}"
            made = name not in self.server.repos
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.server.repos.setdefault(name, (private, []))
            return self.answer(200 if made else 409, {"url": f"{constants.ENDPOINT}/{name}", "name": name})
        name, what = re.fullmatch(r"/api/models/(\w+/\w+)/(preupload|commit)/main", self.path).groups()
        if what == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(raw)["files"]
            ]
            return self.answer(200, {"files": files})
        lines = [json.loads(line) for line in raw.splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        self.server.repos[name][1].append(files)
        return self.answer(200, {"commitUrl": f"{constants.ENDPOINT}/{name}/commit/0", "commitOid": "0" * 40})

    def do_GET(self):
        found = re.fullmatch(r"(?:/api/models)?/(\w+/\w+)(?:/(?:revision|resolve)/([^/]+)(?:/(.+))?)?", self.path)
        private, commits = self.server.repos.get(found[1], (True, []))
        if found[1] not in self.server.repos or (private and not self.known()):
            return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        revisions = {"main": len(commits) - 1, **{commit(found[1], i): i for i in range(len(commits))}}
        if (at := revisions.get(found[2] or "main")) is None:
            return self.answer(404, {"error": "Revision"}, X_Error_Code="RevisionNotFound")
        if found[3] is None:
            return self.answer(200, {"id": found[1], "private": private, "sha": commit(found[1], at)})
        if found[3] not in commits[at]:
            return self.answer(404, {"error": "Entry"}, X_Error_Code="EntryNotFound")
        raw = commits[at][found[3]]
        return self.answer(200, raw, ETag=f'"{hashlib.sha1(raw).hexdigest()}"', X_Repo_Commit=commit(found[1], at))

    do_HEAD = do_GET  # noqa: N815


def commit(name, i):
    return hashlib.sha1(f"{name} {i}".encode()).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Return a hub with nothing on it, that the client talks to, as one who has a token."""
    served = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    served.repos, served.broken = {}, False
    threading.Thread(target=served.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{served.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace("https://huggingface.co", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny):
    """Return the folder of a run whose data lay in a folder that is nobody else's business."""
    folder = tmp_path_factory.mktemp("trained") / "bars"
    config = Config(
        DataConfig(name="/home/someone/secret/bars.npz", root="/home/someone"),
        ModelConfig(latent_dim=3, hidden=(8,)),
        TrainConfig(steps=30, batch_size=20, seed=7),
    )
    train(tiny, config, folder)
    return folder


def fails(capsys, *words, code=2):
    capsys.readouterr()
    assert main(list(words)) == code
    err = capsys.readouterr().err
    assert err.startswith("vsc: ")
    assert err.count("\n") == 1
    assert len(err) < 300
    return err


def test_what_is_pushed_comes_back(server, run, tiny, capsys):
    assert main(["push", str(run), "me/bars"]) == 0
    assert "vsc.load('hf://me/bars')" in capsys.readouterr().out
    private, (files,) = server.repos["me/bars"]
    assert not private
    assert files.keys() == {"config.json", "model.safetensors", "README.md"}
    here, there = runs.load(run), vsc.load("hf://me/bars")
    for ours, theirs in zip(here.encode(tiny.test.x), there.encode(tiny.test.x), strict=True):
        assert torch.equal(ours, theirs)
    assert there.classes == ("row", "column", "corner")


def test_a_revision_is_that_of_its_time(server, run, tiny, tmp_path):
    hub.push(run, "me/bars")
    train(
        tiny,
        Config(model=ModelConfig(name="ae", latent_dim=3, hidden=(8,)), train=TrainConfig(steps=2)),
        tmp_path / "ae",
    )
    hub.push(tmp_path / "ae", "hf://me/bars")
    assert isinstance(vsc.load("hf://me/bars"), vsc.AE)
    assert isinstance(vsc.load(f"hf://me/bars@{commit('me/bars', 0)}"), vsc.VSC)
    with pytest.raises(vsc.UsageError, match=r"hf://me/bars@v9: there is no such revision"):
        vsc.load("hf://me/bars@v9")


def test_the_card_says_what_was_measured_and_how_and_nothing_private(run, tiny, tmp_path):
    from vsc.report import modelcard

    assert "Nothing has been measured" in modelcard.write(run, "me/bars")
    found = results.measured(run, tiny, "valid", samples=2, seed=3)
    text = modelcard.write(run, "me/bars", "apache-2.0")
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "variational-sparse-coding"
    assert "vsc" in front["tags"]
    assert f"| ELBO | {found.scores.elbo:.2f} |".replace("-", "−") in text
    assert "On 20 valid examples, with hard spikes" in text
    assert "2 draws per example, seed 3" in text
    assert "vsc.train(data, config)  # in Python" in text  # its data are not those of its settings
    assert "Training seed 7" in text
    assert "`tiny` (60 training, 20 validation, 20 test examples)" in text
    assert 'vsc.load("hf://me/bars")' in text
    assert "(N, 1, 8, 8)" in text
    assert "Classes: 'row', 'column', 'corner'." in text
    assert "someone" not in text
    assert str(run.parent) not in text


def test_the_card_has_the_commands_of_a_run_that_was_typed(tiny, tmp_path, monkeypatch):
    from vsc.report import modelcard

    (tmp_path / "secret").mkdir()
    npz.write(tmp_path / "secret" / "bars.npz", tiny)
    words = ["--latent-dim", "3", "--model.hidden", "[8]", "--steps", "2", "--seed", "7"]
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--data", str(tmp_path / "secret" / "bars.npz"), *words, "--out", "run"]) == 0
    assert main(["evaluate", "run", "--split", "valid", "--samples", "2", "--seed", "3", "--metrics", "hoyer"]) == 0
    text = modelcard.write(Path("run"), "me/bars")
    assert "secret" not in text
    train_line, evaluate_line = re.findall(r"^vsc (?:train|evaluate) .*$", text, re.MULTILINE)
    assert "--data.name bars.npz " in train_line
    assert "--model.latent_dim 3 --model.hidden '[8]'" in train_line
    assert "--train.seed 7" in train_line
    assert train_line.endswith("--out runs/run")
    assert evaluate_line == "vsc evaluate runs/run --split valid --samples 2 --seed 3 --metrics hoyer"


def test_the_card_of_other_weights_has_no_numbers(run, tiny, tmp_path):
    from vsc.report import modelcard

    results.measured(run, tiny)
    assert "| ELBO |" in modelcard.write(run, "me/bars")
    before = (run / "model" / "model.safetensors").read_bytes()
    try:
        (run / "model" / "model.safetensors").write_bytes(before + b" ")
        assert "Nothing has been measured" in modelcard.write(run, "me/bars")
    finally:
        (run / "model" / "model.safetensors").write_bytes(before)


def test_private_stays_private(server, run, capsys, monkeypatch):
    hub.push(run, "me/mine", private=True)
    assert server.repos["me/mine"][0]
    hub.push(run, "me/mine", private=True)
    hub.push(run, "me/shown")
    assert "me/shown is there already, and public" in fails(capsys, "push", str(run), "me/shown", "--private")
    assert len(server.repos["me/shown"][1]) == 1
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(vsc.UsageError, match=r"hf://me/mine is not on the hub, or it is private"):
        vsc.load("hf://me/mine")


def test_a_model_of_ones_own_goes_to_the_hub_and_comes_back(server, tiny, tmp_path):
    def mine():
        return vsc.VSC(*mlp((1, 8, 8), 9, 3, 1, (4,)), shape=(1, 8, 8), latent_dim=3)

    trained = vsc.train(tiny, Config(train=TrainConfig(steps=2)), tmp_path / "own", model=mine())
    hub.push(tmp_path / "own", "me/own")
    assert "model=mine" in server.repos["me/own"][1][0]["README.md"].decode()
    assert torch.equal(vsc.load("hf://me/own", model=mine()).encode(tiny.test.x).mu, trained.encode(tiny.test.x).mu)


def test_the_cache_serves_where_there_is_no_network(server, run, tiny, monkeypatch, tmp_path):
    hub.push(run, "me/bars")
    expected = vsc.load("hf://me/bars").encode(tiny.test.x).mu
    server.shutdown()
    server.server_close()
    assert torch.equal(vsc.load("hf://me/bars").encode(tiny.test.x).mu, expected)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(vsc.load("hf://me/bars").encode(tiny.test.x).mu, expected)
    with pytest.raises(vsc.UsageError, match="hf://me/other is not in the cache, and the hub cannot be reached"):
        vsc.load("hf://me/other")
    with pytest.raises(vsc.UsageError, match="me/bars: the hub cannot be reached"):
        hub.push(run, "me/bars")


# ---- what can go wrong


def test_a_hub_that_is_not_there(server, run, capsys, tmp_path):
    server.shutdown()
    server.server_close()
    assert "the hub cannot be reached" in fails(capsys, "push", str(run), "me/bars")
    assert "the hub cannot be reached" in fails(capsys, "sample", "hf://me/bars", "--out", str(tmp_path / "s.npz"))


@pytest.mark.parametrize("name", ["bars", "me/bars/more", "me/ba rs", "", "me/", "me/bars@", "http://hub/me/bars"])
def test_names_that_are_none(capsys, run, name):
    assert "hf://USER/NAME" in fails(capsys, "push", str(run), name)
    assert "hf://USER/NAME" in fails(capsys, "sample", f"hf://{name}")


def test_a_name_that_the_hub_does_not_take(server, capsys, run):
    assert "me/--bars" in fails(capsys, "push", str(run), "me/--bars")


def test_unknown_names_and_missing_rights(server, run, capsys, monkeypatch):
    assert "hf://me/nothing is not on the hub" in fails(capsys, "sample", "hf://me/nothing")
    assert "what your token allows" in fails(capsys, "push", str(run), "you/bars")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "what your token allows" in fails(capsys, "push", str(run), "me/bars")
    monkeypatch.delenv("HF_TOKEN")
    assert "hf auth login" in fails(capsys, "push", str(run), "me/bars")
    assert server.repos == {}


def test_a_hub_that_fails(server, run, capsys):
    server.broken = True
    assert "me/bars: the hub failed (500" in fails(capsys, "push", str(run), "me/bars", code=1)
    assert server.repos == {}


def test_an_unknown_license(server, run, capsys):
    assert "license" in fails(capsys, "push", str(run), "me/bars", "--license", "mine")


def test_the_extra_is_named_where_it_is_missing(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "variational-sparse-coding[hub]" in fails(capsys, "push", str(run), "me/bars")
    assert "variational-sparse-coding[hub]" in fails(capsys, "sample", "hf://me/bars")


def test_no_run_no_push(server, capsys, tmp_path):
    assert "not a run folder" in fails(capsys, "push", str(tmp_path), "me/bars")
    assert server.repos == {}


def test_a_damaged_run_is_not_pushed(server, run, capsys, tmp_path):
    import shutil

    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "model" / "model.safetensors").write_bytes(b"nothing")
    assert "damaged" in fails(capsys, "push", str(tmp_path / "run"), "me/bars", code=1)
    assert server.repos == {}


@pytest.mark.parametrize("config", [b'{"model_type": "bert"}', b"[]", b"{", b"NaN", b"\xff"])
def test_models_of_others_are_told_before_their_weights_are_fetched(server, capsys, config):
    server.repos["me/bert"] = (False, [{"config.json": config}])  # asking for weights would fail otherwise
    assert "hf://me/bert is no model of this library: its config.json" in fails(capsys, "sample", "hf://me/bert")
    server.repos["me/empty"] = (False, [{"README.md": b""}])
    assert "it has no config.json" in fails(capsys, "sample", "hf://me/empty")


def test_damaged_weights_of_the_hub_are_refused_by_their_name_there(server, run, capsys):
    hub.push(run, "me/bars")
    server.repos["me/bars"][1][0]["model.safetensors"] = b"other weights"
    line = fails(capsys, "sample", "hf://me/bars", code=1)
    assert "the model in hf://me/bars is damaged or not ours: the checksum" in line


def test_a_full_disk_is_told_as_one(server, run, monkeypatch):
    hub.push(run, "me/bars")
    full = OSError(28, "No space left on device")

    def fail(*_, **__):
        raise full

    found = SimpleNamespace(sha=commit("me/bars", 0))
    library = SimpleNamespace(HfApi=lambda: SimpleNamespace(hf_hub_download=fail, model_info=lambda *_, **__: found))
    monkeypatch.setattr(hub, "_library", lambda: library)
    with pytest.raises(OSError, match="No space left") as caught:
        vsc.load("hf://me/bars")
    assert caught.value is full
