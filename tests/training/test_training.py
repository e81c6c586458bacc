"""The training loop: reproducible, resumable at any step, and clear about what went wrong."""

import math
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from vsc.data.arrays import from_arrays
from vsc.data.batches import Batches
from vsc.data.split import Dataset, Split
from vsc.errors import RunError, UsageError
from vsc.model import VSC
from vsc.model.priors import GATES
from vsc.model.scaling import Scaler
from vsc.settings import build
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.settings.presets import preset
from vsc.training import loop
from vsc.training.loop import Interrupted, Progress, runs, train, validate

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
    first, second = (validate(model, tiny.valid.x, build.resolve(config(), tiny)) for _ in range(2))
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
    runs.create(tmp_path / "begun", build.resolve(config(), tiny))
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
    found = validate(model, tiny.valid.x, build.resolve(settings, tiny))
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


# ---- numbers that go wrong


def spoil(monkeypatch, call, term):
    """Let a term of the bound be NaN from a training step on."""
    forward, calls = VSC.forward, []

    def spoiled(self, x, **knobs):
        bound = forward(self, x, **knobs)
        calls.append(self.training)
        return bound._replace(**{term: bound.kl_slab * math.nan}) if sum(calls) >= call else bound

    monkeypatch.setattr(VSC, "forward", spoiled)


@pytest.mark.parametrize("term", ["log_px", "kl_slab", "kl_spike"])
def test_a_loss_that_is_not_finite_names_step_term_and_checkpoint(tiny, tmp_path, monkeypatch, term):
    spoil(monkeypatch, 7, term)
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    with pytest.raises(RunError) as caught:
        train(tiny, config(train=replace(SHORT, valid_every=100)), tmp_path / "run")
    message = str(caught.value)
    assert f"at step 7 (in {term})" in message
    assert f"the last good checkpoint is {last}" in message
    state = runs.load_checkpoint(last)
    assert state["progress"]["step"] == 5
    assert all(torch.isfinite(value).all() for value in state["model"].values())
    assert not runs.is_finished(tmp_path / "run")


def test_a_loss_that_is_not_finite_before_any_checkpoint(tiny, tmp_path, monkeypatch):
    spoil(monkeypatch, 2, "log_px")
    with pytest.raises(RunError, match=r"at step 2 .*no checkpoint had been written yet"):
        train(tiny, config(), tmp_path / "run")
    with pytest.raises(RunError, match=r"at step \d+ \(in .*(log_px|kl_slab)"):
        train(tiny, config(train=replace(SHORT, lr=1e30)))


@pytest.mark.parametrize("broken", [10, 14])
def test_weights_that_are_not_finite_never_become_a_checkpoint_or_a_model(tiny, tmp_path, monkeypatch, broken):
    step, calls = torch.optim.Adam.step, []

    def break_weights(self, *arguments, **keywords):
        result = step(self, *arguments, **keywords)
        calls.append(1)
        if len(calls) == broken:  # the loss of this step was finite
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(math.nan)
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", break_weights)
    settings = config(train=replace(SHORT, valid_every=100))
    with pytest.raises(RunError, match=rf"at step {broken} \(in the weights\).*the last good checkpoint is"):
        train(tiny, settings, tmp_path / "run")
    state = runs.load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert state["progress"]["step"] == (broken - 1) // 5 * 5
    assert all(torch.isfinite(value).all() for value in state["model"].values())
    assert not (tmp_path / "run" / "model").exists()


# ---- weights in the loss


def test_a_penalty_on_the_components_closes_their_gates(tiny):
    def mean_gate(weight):
        settings = replace(SHORT, steps=80, lr=5e-3, penalty=weight)
        model = train(tiny, config(train=settings, components=8, **({"alpha": 0.01} if weight else {})))
        return model.prior.mixed(model.posterior).gamma.mean().item()

    assert mean_gate(20.0) < 0.7 * mean_gate(0.0)


def test_clipping_bounds_the_gradient(tiny, monkeypatch):
    norms, step = [], torch.optim.Adam.step

    def seen(self, *args, **kwargs):
        norms.append(torch.stack([p.grad.norm() for group in self.param_groups for p in group["params"]]).norm().item())
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", seen)
    train(tiny, config())
    free = min(norms)
    norms.clear()
    train(tiny, config(train=replace(SHORT, clip=free / 2)))
    assert max(norms) <= free / 2 * 1.001


def test_a_gradient_that_is_not_finite_is_told_in_one_line(tiny):
    mine = build.new_model(build.resolve(config("vae"), tiny), tiny)
    mine.decoder.register_full_backward_hook(lambda module, before, after: (before[0] * torch.inf,))
    with pytest.raises(RunError, match=r"stopped being finite at step 1 .in the gradient.; lower train.lr"):
        train(tiny, Config(train=replace(SHORT, clip=1.0)), model=mine)


# ---- settings that cannot be


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "foo"}, "precision"),
        ({"device": "foo"}, "device"),
        ({"devices": 3}, "multiple of the 3 processes"),
        ({"target_l0": 9.0}, "target_l0 must be below"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(tiny, tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        train(tiny, config(train=replace(SHORT, **settings)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("gates", ["learned", "mixture"])
def test_adams_first_step_moves_the_prior_at_its_own_pace(tiny, gates):
    """Adam's first step is lr in the direction of the gradient's sign, for every weight that has one."""
    own = config(gates=gates, train=replace(SHORT, steps=1, lr=0.01, beta=1.0))
    settings = build.resolve(own, tiny)
    torch.manual_seed(settings.train.seed)
    before = build.new_model(settings, tiny).state_dict()
    after = train(tiny, own).state_dict()
    assert (GATES["learned"].pace, GATES["mixture"].pace > 1) == (1, True)
    for name, pace in (("prior.gates.spike_logits", GATES[gates].pace), ("decoder.2.bias", 1.0)):
        moved = (after[name] - before[name]).abs()
        torch.testing.assert_close(moved.median(), torch.tensor(0.01 * pace), rtol=1e-3, atol=0)


def test_arrays_are_data_sets_too():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 4)))
    own = Config(model=ModelConfig(latent_dim=2), train=TrainConfig(steps=2))
    expected = train(from_arrays(x), own).state_dict()
    for given in (x, x.numpy()):
        for name, value in train(given, own).state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_the_old_order_says_what_to_type(tiny):
    with pytest.raises(UsageError, match=r"the data come first: vsc.train\(data, config\)"):
        train(config(), tiny)
    with pytest.raises(UsageError, match=r"vsc.load_data\(name\)"):
        train("digits")
    with pytest.raises(UsageError, match="a kind of model is named by"):
        train(tiny, model="vae")
    with pytest.raises(UsageError, match="path of a run folder"):
        train(tiny, folder=3)
    for wrong in (TrainConfig(steps=5), {"steps": 5}):
        with pytest.raises(
            UsageError, match=rf"a vsc.Config, not a {type(wrong).__name__}: vsc.train\(data, vsc.Config"
        ):
            train(tiny, wrong)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["vsc", "vae", "thresholded-laplace"])
def test_validation_rows_of_an_extreme_size_are_named_and_do_not_stop_a_run(tmp_path, name):
    x = torch.randn(80, 6, generator=torch.Generator().manual_seed(0))
    parts = [x[:60], x[60:70].clone(), x[70:]]
    sound = Dataset("sound", (6,), Split(parts[0]), Split(parts[1][[0, 1, 2, *range(4, 10)]]), Split(parts[2]))
    parts[1][3] = 1e38
    far = Dataset("far", (6,), *map(Split, parts))
    settings = config(name, replace(SHORT, steps=40, patience=3), likelihood="gaussian")
    train(far, settings, tmp_path / "far")
    rows = [row for row in runs.read_history(tmp_path / "far") if row["split"] == "valid"]
    assert [row["not_finite"] for row in rows] == [[3]] * len(rows)
    assert rows[-1]["elbo"] > rows[0]["elbo"]
    assert "NaN" not in (tmp_path / "far" / "metrics.jsonl").read_text()
    model, resolved = runs.load(tmp_path / "far"), build.resolve(settings, far)
    assert "not_finite" not in validate(model, sound.valid.x, resolved)


def test_a_learning_rate_far_too_large_names_step_and_setting(tiny):
    for name in ("vsc", "thresholded-laplace"):
        with pytest.raises(RunError, match=r"at step \d+ .*lower train\.lr"):
            train(tiny, config(name, replace(SHORT, lr=1e10)))


def test_of_many_latents_a_row_has_quantiles(tiny, monkeypatch):
    config = build.resolve(Config(model=ModelConfig(latent_dim=12)), tiny)
    model = build.new_model(config, tiny)
    all_of_them = loop.validate(model, tiny.valid.x, config)
    monkeypatch.setattr(loop, "LISTED", 11)
    row = loop.validate(model, tiny.valid.x, config)
    for name in ("rates", "kl_latent"):
        assert len(row[name]) == 11
        np.testing.assert_allclose(row[name], np.quantile(all_of_them[name], np.linspace(0, 1, 11)), atol=1e-4)
    assert row | {"rates": 0, "kl_latent": 0} == all_of_them | {"rates": 0, "kl_latent": 0}
