"""What a run may be resumed with: the same data, and settings that leave the result what it would have been."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from vsc.data.split import Dataset, Split
from vsc.errors import RunError, UsageError
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.settings.resolve import resolve
from vsc.training import runs
from vsc.training.loop import train
from vsc.training.pressure import Pressure, begin

PLAIN = TrainConfig(
    steps=12,
    batch_size=16,
    lr=1e-3,
    cap=1.0,
    beta=1.0,
    relaxation=0.5,
    log_every=4,
    valid_every=4,
    checkpoint_every=5,
    device="cpu",
)


def config(train=PLAIN, **model):
    model = {"latent_dim": 4, "hidden": (16,), "likelihood": "bernoulli"} | model
    return Config(DataConfig("tiny"), ModelConfig("vsc", **model), train)


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rows(folder):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in runs.read_history(folder)]


def stop_at(step):
    def watch(row):
        if row["step"] == step:
            raise KeyboardInterrupt

    return watch


def stopped(data, settings, folder, step=8):
    with pytest.raises(KeyboardInterrupt):
        train(data, settings, folder, watch=stop_at(step))


@pytest.fixture(scope="module")
def half(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("half") / "run"
    stopped(tiny, config(), folder)
    return folder


@pytest.fixture
def run(half, tmp_path):
    """Return the folder of a run that was stopped half way."""
    return shutil.copytree(half, tmp_path / "run")


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """Return the folder of that run where nothing stopped it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(tiny, config(), folder)
    return folder


# ---- settings


def test_a_finished_run_goes_on_where_steps_are_raised(tiny, tmp_path, whole):
    long = config(replace(PLAIN, steps=24))
    shutil.copytree(whole, tmp_path / "parts")
    parts = train(tiny, long, tmp_path / "parts", resume=True)
    assert equal(parts, train(tiny, long, tmp_path / "whole"))
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert equal(runs.load(tmp_path / "parts"), parts)
    assert runs.read_config(tmp_path / "parts").train.steps == 24


def test_a_run_that_is_being_extended_is_not_finished(tiny, tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(tiny, config(replace(PLAIN, steps=24)), tmp_path / "run", resume=True, watch=stop_at(16))
    assert not runs.is_finished(tmp_path / "run")
    train(tiny, config(replace(PLAIN, steps=24)), tmp_path / "run", resume=True)
    assert runs.is_finished(tmp_path / "run")


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({"lr": "1e-3 -> 1e-4 at 0.5"}, {"steps": 24}, "the schedule of lr .* at step 6"),
        ({"beta": "0 -> 1 at 0 over 0.5"}, {"steps": 24}, "the schedule of beta .* at step 1"),
        ({"target_l0": 2.0}, {"steps": 24}, "the price that train.target_l0 and train.cap ask"),
        ({"cap": 0.3}, {"steps": 24}, "the price that train.target_l0 and train.cap ask"),
        ({}, {"steps": 6}, "they may only be raised"),
        ({"patience": 50, "valid_every": 5}, {"steps": 24}, "a validation at the last step"),
    ],
)
def test_steps_are_not_raised_where_that_would_have_been_another_run(tiny, tmp_path, before, after, why):
    settings = replace(PLAIN, **before)
    train(tiny, config(settings), tmp_path / "run")
    held = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
    with pytest.raises(UsageError, match=rf"train\.steps 12, not \d+: {why}"):
        train(tiny, config(replace(settings, **after)), tmp_path / "run", resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")} == held


@pytest.mark.parametrize(
    "free", [{"log_every": 2}, {"checkpoint_every": 3}, {"valid_every": 3}, {"device": "auto"}], ids=str
)
def test_what_bears_on_no_weight_may_differ(tiny, run, whole, free):
    if free == {"device": "auto"} and torch.cuda.is_available():
        pytest.skip("auto is another device here")
    settings = config(replace(PLAIN, **free))
    assert equal(train(tiny, settings, run, resume=True), runs.load(whole))
    assert runs.read_config(run) == resolve(settings, tiny)


def test_validations_bear_on_patience(tiny, tmp_path):
    patient = replace(PLAIN, patience=3)
    stopped(tiny, config(patient), tmp_path / "run")
    with pytest.raises(UsageError, match=r"train\.valid_every 4, not 3"):
        train(tiny, config(replace(patient, valid_every=3)), tmp_path / "run", resume=True)


# ---- data


def table(**changes):
    """40 rows of four named columns."""
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    x = changes.get("x", x)
    parts = [Split(part) for part in (x[:30], x[30:35], x[35:])]
    return Dataset("table", (4,), *parts, features=changes.get("features", ("a", "b", "c", "d")))


def test_a_run_notes_its_data(tmp_path):
    data = table()
    train(data, config(likelihood="gaussian"), tmp_path / "run")
    noted = json.loads((tmp_path / "run" / "environment.json").read_text())["data"]
    assert noted == {
        "name": "table",
        "content": data.content,
        **{"train": 30, "valid": 5, "test": 5},
        "features": ["a", "b", "c", "d"],
    }
    assert runs.changed_data(tmp_path / "run", table()) == ""


SOME = torch.randn(43, 4, generator=torch.Generator().manual_seed(1))
OTHER = {
    "rows": (Dataset("t", (4,), *map(Split, SOME.split([33, 5, 5])), features=("a", "b", "c", "d")), "33 training ex"),
    "order": (table(features=("b", "a", "c", "d")), "the columns are in another order"),
    "names": (table(features=("a", "b", "c", "e")), "without the column 'd', with the new column 'e'"),
    "values": (table(x=SOME[:40]), "other values"),
}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("what", OTHER)
def test_a_run_is_not_resumed_with_other_data(tmp_path, what, finished):
    settings, (other, says) = config(likelihood="gaussian"), OTHER[what]
    if finished:
        train(table(), settings, tmp_path / "run")
    else:
        stopped(table(), settings, tmp_path / "run")
    with pytest.raises(UsageError, match=f"the data have changed since: .*{says}") as caught:
        train(other, settings, tmp_path / "run", resume=True)
    assert "--overwrite" in str(caught.value)
    train(table(), settings, tmp_path / "run", resume=True)


def test_a_run_of_a_version_that_noted_no_data_is_taken_as_it_is(tmp_path):
    path = tmp_path / "environment.json"
    path.write_text('{"python": "3.11"}')
    assert runs.changed_data(tmp_path, table()) == ""
    for damaged in ("", "{", "[]", '{"data": 3}', '{"data": {}}', "[" * 10_000, '{"data": {"content": "x"}}'):
        path.write_text(damaged)
        assert str(path) in runs.changed_data(tmp_path, table())


# ---- what is refused leaves nothing


@pytest.mark.parametrize("model", [{"spikes": "exact", "latent_dim": 30}, {"likelihood": "nope"}, {"hidden": (0,)}])
def test_a_refused_model_leaves_nothing_behind(tiny, tmp_path, model):
    with pytest.raises(UsageError):
        train(tiny, config(replace(PLAIN, relaxation=None), **model), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [[], ["environment.json"], [".config.77-1.tmp.yaml", ".lock"]])
def test_a_folder_that_was_hardly_begun_when_its_process_was_killed_is_begun_anew(tiny, tmp_path, left):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in left:
        (folder / name).write_text(json.dumps(runs.environment()))
    train(tiny, config(), folder)
    assert runs.is_finished(folder)
    assert not list(folder.rglob(".*"))


def test_temporaries_of_killed_processes_go_when_a_run_goes_on(tiny, run):
    for name in (".metrics.77.tmp.jsonl", "checkpoints/.last.99999999-5.tmp.pt"):
        (run / name).write_text("half")
    train(tiny, config(), run, resume=True)
    assert not list(run.rglob(".*"))


# ---- damage


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("in_window", [1]), ("step", "5"), ("step", -1), ("seconds", None), ("window", torch.zeros(2))],
        *(
            ("pressure", value)
            for value in ({}, 3.0, begin(torch.zeros(5))._asdict(), dict.fromkeys(Pressure._fields, 1))
        ),
    ],
)
def test_a_checkpoint_with_a_field_of_another_kind_names_file_and_field(tiny, run, field, value):
    path = run / "checkpoints" / "last.pt"
    state = runs.load_checkpoint(path)
    state["progress"][field] = value
    runs.save_checkpoint(path, state)
    with pytest.raises(RunError, match=rf"{path} does not fit the run: progress\.{field}"):
        train(tiny, config(), run, resume=True)


@pytest.mark.parametrize("state", [torch.zeros(3), torch.zeros(5056, dtype=torch.uint8)])
def test_a_checkpoint_whose_random_state_is_none_is_refused(tiny, run, state):
    path = run / "checkpoints" / "last.pt"
    saved = runs.load_checkpoint(path)
    runs.save_checkpoint(path, saved | {"rng": [state]})
    with pytest.raises(RunError, match=f"{path} does not fit the run"):
        train(tiny, config(), run, resume=True)


@pytest.mark.parametrize(
    ("name", "value"), [("exp_avg", 3.0), ("exp_avg", torch.zeros(3, 3)), ("betas", [1, "a"]), ("eps", None)]
)
def test_a_checkpoint_of_an_optimiser_that_could_not_step_names_what_does_not_fit(tiny, run, name, value):
    path = run / "checkpoints" / "last.pt"
    state = runs.load_checkpoint(path)
    part = state["optimizer"]["state"][0] if name == "exp_avg" else state["optimizer"]["param_groups"][0]
    part[name] = value
    runs.save_checkpoint(path, state)
    with pytest.raises(RunError, match=rf"{path} does not fit the run: optimizer: {name} "):
        train(tiny, config(), run, resume=True)


@pytest.mark.parametrize("line", ["[" * 10_000, '{"step": [1], "split": "train", "seconds": 0}', '{"step": NaN}'])
def test_a_damaged_line_of_the_history_is_left_out(tiny, run, whole, line):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    train(tiny, config(), run, resume=True)
    assert rows(run) == rows(whole)
