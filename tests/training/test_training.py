"""The training loop: reproducible, resumable at any step, and clear about what went wrong."""

import math
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from vsc.data.batches import Batches
from vsc.data.split import Split
from vsc.errors import UsageError
from vsc.model.scaling import Scaler
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.settings.presets import preset
from vsc.settings.resolve import resolve
from vsc.training.loop import Interrupted, Progress, runs, train
from vsc.training.validation import validate

# 60 examples in batches of 16 are epochs of 3 steps, so that steps 4, 5, 7, 8 end inside an epoch
SHORT = TrainConfig(steps=14, batch_size=16, log_every=3, valid_every=4, checkpoint_every=5, device="cpu")
MOVING = replace(
    SHORT,
    beta="0 -> 1 at 0 over 0.6",
    lr="1e-3 -> 1e-4 at 0.6 over 0.3",
)
GATED = replace(MOVING, cap=0.2, relaxation="1 -> 0.3")
SLABS = replace(GATED, lam="0 -> 1 at 0.2 over 0.4", total_correlation=0.5)


def config(name="vsc", train=SHORT, spikes="straight-through", binarise=False, **model):
    model = {"latent_dim": 4, "hidden": (16,), "likelihood": "bernoulli"} | model
    return Config(DataConfig("tiny", binarise=binarise), ModelConfig(name, spikes=spikes, **model), train)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a, b):
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rows(folder):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in runs.read_history(folder)]


def kill_at(monkeypatch, step, signum=signal.SIGINT):
    """Send this process a signal while it fetches the batch of a step, once."""
    fetch, sent = Batches.__call__, []

    def fetch_and_kill(self, number):
        if number == step and not sent:
            sent.append(signum)
            os.kill(os.getpid(), signum)
        return fetch(self, number)

    monkeypatch.setattr(Batches, "__call__", fetch_and_kill)


# ---- batches


def numbered(n):
    return torch.arange(n, dtype=torch.float32).reshape(n, 1)


def plain_scaler():
    return Scaler("none", torch.zeros(1), torch.ones(1))


@pytest.mark.parametrize(("n", "size"), [(60, 16), (60, 20), (7, 3), (5, 1)])
def test_every_epoch_sees_each_example_at_most_once(n, size):
    batches = Batches(numbered(n), plain_scaler(), size, seed=3)
    assert batches.per_epoch == n // size
    orders = []
    for epoch in range(3):
        seen = torch.cat([batches(epoch * batches.per_epoch + i) for i in range(batches.per_epoch)]).flatten()
        assert len(seen) == n // size * size
        assert len(seen.unique()) == len(seen)
        orders.append(seen.tolist())
    assert orders[0] != orders[1] != orders[2]


def test_batches_are_a_pure_function_of_the_step():
    a, b = (Batches(numbered(60), plain_scaler(), 16, seed=3) for _ in range(2))
    forwards = [a(step) for step in range(10)]
    torch.manual_seed(77)
    backwards = [b(step) for step in reversed(range(10))][::-1]
    assert all(torch.equal(x, y) for x, y in zip(forwards, backwards, strict=True))
    other = Batches(numbered(60), plain_scaler(), 16, seed=4)
    assert any(not torch.equal(other(step), x) for step, x in enumerate(forwards))


@pytest.mark.parametrize("world", [2, 4])
def test_processes_part_the_joint_batch_among_them(world):
    joint = Batches(numbered(60), plain_scaler(), 16, seed=3)
    parts = [Batches(numbered(60), plain_scaler(), 16, 3, rank=rank, world=world) for rank in range(world)]
    for step in range(7):
        shares = [part(step).flatten() for part in parts]
        assert {len(share) for share in shares} == {16 // world}
        assert sorted(torch.cat(shares).tolist()) == sorted(joint(step).flatten().tolist())


def test_a_batch_is_never_larger_than_the_data():
    batches = Batches(numbered(5), plain_scaler(), 128, seed=0)
    assert batches.per_epoch == 1
    assert sorted(batches(0).flatten().tolist()) == [0, 1, 2, 3, 4]
    assert sorted(batches(1).flatten().tolist()) == [0, 1, 2, 3, 4]


def test_binarise_draws_bits_with_the_grey_value_as_probability():
    grey = torch.full((4000, 2), 0.3)
    batches = Batches(grey, plain_scaler(), 4000, seed=0, binarise=True)
    first, second = batches(0), batches(0)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)  # dynamic: drawn anew
    assert first.mean().item() == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 8000))


# ---- the same seed


@pytest.mark.parametrize("name", ["ae", "vae", "vsc"])
def test_the_same_seed_gives_the_same_metrics_and_weights(tiny, tmp_path, name):
    torch.manual_seed(5)
    one = train(tiny, config(name), tmp_path / "one")
    torch.manual_seed(6)  # nothing outside the seed of the settings may matter
    two = train(tiny, config(name), tmp_path / "two")
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    assert equal(one, two)


def test_another_seed_gives_another_run(tiny, tmp_path):
    train(tiny, config(), tmp_path / "one")
    train(tiny, config(train=replace(SHORT, seed=1)), tmp_path / "two")
    assert rows(tmp_path / "one") != rows(tmp_path / "two")


def test_a_run_without_a_folder_is_the_same_and_writes_nothing(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert equal(train(tiny, config()), train(tiny, config(), tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_metrics_have_the_rows_that_the_settings_ask_for(tiny, tmp_path):
    model = train(tiny, config(), tmp_path / "run")
    found = [(row["step"], row["split"]) for row in rows(tmp_path / "run")]
    logged = [(step, "train") for step in (3, 6, 9, 12, 14)]
    validated = [(step, "valid") for step in (4, 8, 12, 14)]
    assert sorted(found) == sorted(logged + validated)
    assert not model.training
    for row in rows(tmp_path / "run"):
        assert row["elbo"] == pytest.approx(row["log_px"] - row["kl_slab"] - row["kl_spike"] - row["kl_selection"])


def test_a_training_row_is_the_mean_over_its_steps(tiny, tmp_path):
    often, seldom = replace(SHORT, steps=6, log_every=1), replace(SHORT, steps=6, log_every=6)
    train(tiny, config(train=often), tmp_path / "often")
    train(tiny, config(train=seldom), tmp_path / "seldom")
    each = [row["elbo"] for row in rows(tmp_path / "often") if row["split"] == "train"]
    mean = [row["elbo"] for row in rows(tmp_path / "seldom") if row["split"] == "train"]
    assert len(each) == 6
    assert mean == [pytest.approx(np.mean(each), rel=1e-5)]


def test_validation_repeats_itself_and_leaves_mode_and_random_state_alone(tiny):
    model = train(tiny, config()).train()
    before = torch.get_rng_state()
    first, second = (validate(model, tiny.valid.x, resolve(config(), tiny)) for _ in range(2))
    assert first == second
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_training_improves_the_bound(tiny, tmp_path):
    train(tiny, config(train=replace(SHORT, steps=100, lr=1e-2, valid_every=20)), tmp_path / "run")
    elbo = [row["elbo"] for row in rows(tmp_path / "run") if row["split"] == "valid"]
    assert elbo[-1] > elbo[0] + 5


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed", "bf16-true"])
def test_whatever_the_precision_the_model_is_float32_and_loads(tiny, tmp_path, precision):
    model = train(tiny, config(train=replace(SHORT, precision=precision)), tmp_path / "run")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert torch.equal(runs.load(tmp_path / "run").encode(tiny.test.x).z, model.encode(tiny.test.x).z)


@pytest.mark.parametrize("name", ["vsc-linear", "vsc-lista", "batch-topk", "gated"])
def test_dictionaries_train_in_half_precision(tiny, name):
    steps = {"model.latent_dim": 20, "train.steps": 2, "train.valid_every": 1, "train.device": "cpu"}
    found = {}
    for precision in ("32-true", "bf16-mixed", "bf16-true"):
        watched = found.setdefault(precision, [])
        train(tiny, preset(name, steps | {"train.precision": precision}), watch=watched.append)
    full = [row["log_px"] for row in found["32-true"]]
    for watched in found.values():  # weights and activations have 8 bits
        assert [row["log_px"] for row in watched] == pytest.approx(full, rel=2**-7)


# ---- stopping and going on


@pytest.mark.parametrize(
    ("step", "settings"),
    [
        *(pytest.param(step, config("vsc", SLABS), id=f"vsc-{step}") for step in (3, 4, 6, 13)),
        pytest.param(3, config("vsc", replace(SLABS, cap=None), gates="fixed", slab="learned"), id="fixed"),
        pytest.param(4, config("vsc", SLABS, gates="mixture"), id="mixture"),
        pytest.param(6, config("vsc", replace(SLABS, relaxation="50 -> 90"), "sigmoid"), id="sigmoid"),
        pytest.param(13, config("vae", MOVING, binarise=True), id="vae-binarised"),
        pytest.param(
            6,
            config(
                "vsc",
                replace(SLABS, target_l0="3 -> 0.5 at 0.2 over 0.4", penalty=1.0, clip=1.0),
                components=8,
                nu=5.0,
            ),
            id="target",
        ),
        pytest.param(
            6,
            config("thresholded-laplace", replace(GATED, cap=0.6, target_l0="4 -> 2 at 0.2 over 0.4")),
            id="thresholded-laplace",
        ),
        pytest.param(4, config("tcvae", replace(MOVING, total_correlation="0 -> 3 at 0 over 0.5")), id="tcvae"),
    ],
)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tiny, tmp_path, monkeypatch, settings, step):
    whole = train(tiny, settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_at(patch, step)
        with pytest.raises(Interrupted, match=f"stopped at step {step + 1} of 14"):
            train(tiny, settings, tmp_path / "parts")
    assert not runs.is_finished(tmp_path / "parts")
    torch.manual_seed(1234)  # the random state comes from the checkpoint
    parts = train(tiny, settings, tmp_path / "parts", resume=True)
    assert equal(whole, parts)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def test_a_run_that_was_killed_after_its_checkpoint_goes_on_bit_for_bit(tiny, tmp_path, monkeypatch):
    whole = train(tiny, config(train=MOVING), tmp_path / "whole")
    fetch = Batches.__call__

    def die(self, number):  # no chance to save: rows after the checkpoint at step 5 are already written
        if number == 9:
            raise MemoryError
        return fetch(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__call__", die)
        with pytest.raises(MemoryError):
            train(tiny, config(train=MOVING), tmp_path / "parts")
    assert max(row["step"] for row in rows(tmp_path / "parts")) > 5
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "split": "tr')  # the line that was being written
    parts = train(tiny, config(train=MOVING), tmp_path / "parts", resume=True)
    assert equal(whole, parts)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_says_how_to_go_on_and_gives_the_handlers_back(tiny, tmp_path, monkeypatch, signum, code):
    before = signal.getsignal(signum)
    kill_at(monkeypatch, 4, signum)
    folder = tmp_path / "my runs"
    with pytest.raises(Interrupted) as caught:
        train(tiny, config(), folder)
    assert caught.value.code == code
    assert str(caught.value).endswith(f"go on with: vsc train --out '{folder}' --resume")
    assert signal.getsignal(signum) is before


def test_a_signal_without_a_folder_says_that_nothing_was_saved(tiny, monkeypatch):
    kill_at(monkeypatch, 4)
    with pytest.raises(Interrupted, match="stopped at step 5 of 14; nothing was saved"):
        train(tiny, config())


def test_a_second_interrupt_stops_at_once(tiny, monkeypatch):
    fetch = Batches.__call__

    def twice(self, number):
        if number == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return fetch(self, number)

    monkeypatch.setattr(Batches, "__call__", twice)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, config())


def test_resuming_a_finished_run_changes_no_file(tiny, tmp_path):
    model = train(tiny, config(), tmp_path / "run")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "run").rglob("*.*")}
    assert equal(train(tiny, config(), tmp_path / "run", resume=True), model)
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "run").rglob("*.*")}
    assert after == before


def test_resuming_with_other_settings_names_the_first_that_differs(tiny, tmp_path, monkeypatch):
    kill_at(monkeypatch, 4)
    with pytest.raises(Interrupted):
        train(tiny, config(), tmp_path / "run")
    with pytest.raises(UsageError, match=r"train\.lr 0\.002 -> 4e-05 at 0\.5 over 0\.5, not 0\.5"):
        train(tiny, config(train=replace(SHORT, lr=0.5)), tmp_path / "run", resume=True)
    moved = config()
    moved = replace(moved, data=replace(moved.data, root=str(tmp_path)))
    train(tiny, moved, tmp_path / "run", resume=True)  # where the data lie is no setting of the run


def test_resuming_what_is_not_there(tiny, tmp_path):
    with pytest.raises(UsageError, match="not a run folder"):
        train(tiny, config(), tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()
    runs.create(tmp_path / "begun", resolve(config(), tiny))
    with pytest.raises(UsageError, match=r"no checkpoint .*--overwrite"):
        train(tiny, config(), tmp_path / "begun", resume=True)


def test_resume_and_overwrite_exclude_each_other(tiny, tmp_path):
    train(tiny, config(), tmp_path / "run")
    with pytest.raises(UsageError, match="choose one"):
        train(tiny, config(), tmp_path / "run", resume=True, overwrite=True)
    assert runs.is_finished(tmp_path / "run")


# ---- early stopping

# a learning rate at which the validation ELBO of 60 examples soon gets worse
OVERFIT = replace(SHORT, steps=400, lr=2e-2, valid_every=5, patience=3, log_every=50, checkpoint_every=20)


def test_early_stopping_returns_the_best_weights(tiny, tmp_path):
    settings = config("vae", OVERFIT, hidden=(64,))
    model = train(tiny, settings, tmp_path / "run")
    elbo = {row["step"]: row["elbo"] for row in rows(tmp_path / "run") if row["split"] == "valid"}
    best = max(elbo, key=lambda step: elbo[step])
    assert max(elbo) == best + 3 * 5 < 400
    found = validate(model, tiny.valid.x, resolve(settings, tiny))
    assert found["elbo"] == elbo[best]
    assert equal(runs.load(tmp_path / "run"), model)


def test_early_stopping_resumes_bit_for_bit(tiny, tmp_path, monkeypatch):
    settings = config("vae", OVERFIT, hidden=(64,))
    whole = train(tiny, settings, tmp_path / "whole")
    last = max(row["step"] for row in rows(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        kill_at(patch, last - 3)  # while the patience is being counted
        with pytest.raises(Interrupted):
            train(tiny, settings, tmp_path / "parts")
    parts = train(tiny, settings, tmp_path / "parts", resume=True)
    assert equal(whole, parts)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def test_patience_counts_validations_and_nan_is_never_better():
    done = Progress(torch.zeros(3))
    scores = [-5.0, -4.0, math.nan, -4.5, -3.0, -3.0]
    waited = []
    for score in scores:
        done = done.judged({"log_px": score}, None)
        waited.append((done.waited, done.best))
    assert waited == [(0, -5.0), (0, -4.0), (1, -4.0), (2, -4.0), (0, -3.0), (1, -3.0)]


def test_patience_without_a_validation_set_is_refused(tiny):
    empty = replace(tiny, valid=Split(tiny.train.x[:0]))
    with pytest.raises(UsageError, match=r"patience needs a validation set.*valid_fraction"):
        train(empty, config(train=replace(SHORT, patience=2)))
    train(empty, config())
