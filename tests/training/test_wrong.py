"""What goes wrong in training: numbers that stop being finite, and settings that cannot be."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vsc.data.arrays import from_arrays
from vsc.data.split import Dataset, Split
from vsc.errors import RunError, UsageError
from vsc.model import VSC
from vsc.model.priors import GATES
from vsc.settings import build
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.settings.resolve import resolve
from vsc.training import validation
from vsc.training.loop import runs, train
from vsc.training.validation import validate

SHORT = TrainConfig(steps=14, batch_size=16, log_every=3, valid_every=4, checkpoint_every=5, device="cpu")


def config(name="vsc", train=SHORT, spikes="straight-through", binarise=False, **model):
    model = {"latent_dim": 4, "hidden": (16,), "likelihood": "bernoulli"} | model
    return Config(DataConfig("tiny", binarise=binarise), ModelConfig(name, spikes=spikes, **model), train)


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
    mine = build.new_model(resolve(config("vae"), tiny), tiny)
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
    settings = resolve(own, tiny)
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
    with pytest.raises(UsageError, match="one with a name is"):
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
    model, resolved = runs.load(tmp_path / "far"), resolve(settings, far)
    assert "not_finite" not in validate(model, sound.valid.x, resolved)


def test_a_learning_rate_far_too_large_names_step_and_setting(tiny):
    for name in ("vsc", "thresholded-laplace"):
        with pytest.raises(RunError, match=r"at step \d+ .*lower train\.lr"):
            train(tiny, config(name, replace(SHORT, lr=1e10)))


def test_of_many_latents_a_row_has_quantiles(tiny, monkeypatch):
    config = resolve(Config(model=ModelConfig(latent_dim=12)), tiny)
    model = build.new_model(config, tiny)
    all_of_them = validate(model, tiny.valid.x, config)
    monkeypatch.setattr(validation, "LISTED", 11)
    row = validate(model, tiny.valid.x, config)
    for name in ("rates", "kl_latent"):
        assert len(row[name]) == 11
        np.testing.assert_allclose(row[name], np.quantile(all_of_them[name], np.linspace(0, 1, 11)), atol=1e-4)
    assert row | {"rates": 0, "kl_latent": 0} == all_of_them | {"rates": 0, "kl_latent": 0}
