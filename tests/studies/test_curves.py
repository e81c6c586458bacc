"""Studies over alpha, estimators, warm-ups and soft sparsity: their numbers, their shared runs and their words."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vsc import data
from vsc.errors import RunError
from vsc.measure.measured import hard_elbo
from vsc.metrics import linear_probe
from vsc.settings import build
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.settings.presets import changed
from vsc.settings.resolve import resolve
from vsc.studies import STUDIES, Ask, Group, by_alpha, by_dim, collapse, soft_sparsity, stability
from vsc.sweep.jobs import key, plan, sweep
from vsc.training.validation import validate

DIGITS = data.load("digits")
COMMON = Config(DataConfig("digits"), train=TrainConfig(steps=30, valid_every=10))
FEW = {
    "probe-vs-alpha": {"dims": (8,), "alphas": (1.0, 0.5, 0.02)},
    "stability": {"dims": (8,), "alphas": (0.5,)},
    "collapse": {"dims": (8,)},
    "soft-sparsity": {"dims": (6,)},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def asked(root):
    """Return a function name -> (what is asked, its groups), each trained once."""
    found = {}

    def groups(name):
        if name not in found:
            ask = Ask(DIGITS, steps=30, **FEW[name])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(stability, "STEEPNESS", (1.0, 50.0))
                patch.setattr(stability, "TEMPERATURES", (0.5,))
                rows = STUDIES[name].rows(ask)
            jobs = [plan(row.label, changed(COMMON, row.settings), root, row.metrics) for row in rows]
            results = sweep(jobs, tell=lambda line: None)
            measured = zip(rows, jobs, results, strict=True)
            found[name] = ask, [Group(row, [job], [result]) for row, job, result in measured]
        return found[name]

    return groups


def doctored(group, metrics=None, **scores):
    results = [
        one._replace(scores=one.scores._replace(**scores), metrics=one.metrics | (metrics or {}))
        for one in group.results
    ]
    return replace(group, results=results)


def cell(finding, row, column):
    return finding.table.rows[row][finding.table.columns.index(column)]


def said(finding):
    return " ".join(finding.words)


def keys(rows):
    return {key(resolve(changed(COMMON, row.settings), DIGITS), DIGITS) for row in rows}


def test_runs_over_alpha_are_those_over_j():
    ask = Ask(DIGITS)
    assert {row.settings["model.alpha"] for row in by_alpha.rows(ask)} == {1.0, 0.5, 0.2, 0.1, 0.05, 0.01}
    here, there = keys(by_alpha.rows(ask)), keys(by_dim.elbo_rows(ask))
    assert len(here) == 6
    assert len(here & there) == len(by_dim.ALPHAS)
    assert keys(by_alpha.rows(ask, ("linear",))) == here  # what is measured is no matter of training
    assert len(keys(by_alpha.rows(Ask(DIGITS, dims=(4, 8), alphas=(0.5,))))) == 2


def test_soft_sparsity_trains_with_the_settings_of_the_table_in_the_results():
    old = {"data.name": "digits", "model.latent_dim": 60, "model.alpha": 0.01, "train.steps": 6000}
    old |= {"model.name": "thresholded-laplace", "train.target_l0": 8.0}
    assert key(resolve(changed(Config(), old), DIGITS), DIGITS) in {
        key(resolve(changed(Config(DataConfig("digits")), row.settings), DIGITS), DIGITS)
        for row in soft_sparsity.rows(Ask(DIGITS))
    }


def test_realised_sparsity_is_the_mean_gate(asked):
    ask, groups = asked("probe-vs-alpha")
    finding = by_alpha.draw_sparsity(ask, groups)
    for i, group in enumerate(groups):
        gamma = group.model().encode(DIGITS.test.x).gamma
        assert cell(finding, i, "l0 / J") == pytest.approx(gamma.mean().item(), rel=1e-5)
        assert cell(finding, i, "active / J") == pytest.approx((gamma > 0.5).float().mean().item(), rel=1e-5)
    assert cell(finding, 0, "l0 / J") == 1  # alpha 1 holds the gates open


def test_words_say_whether_sparsity_follows_alpha(asked):
    ask, groups = asked("probe-vs-alpha")

    def words(half, few):
        return said(by_alpha.draw_sparsity(ask, [groups[0], doctored(groups[1], l0=half), doctored(groups[2], l0=few)]))

    assert "within 25 % of alpha everywhere" in words(4.9, 0.16)
    assert "more than 25 % from alpha at 0.5" in words(5.1, 0.16)
    assert "more than 25 % from alpha at 0.5" in words(2.9, 0.16)
    assert "stays near the prior" in words(4, 0.16)
    assert "departs from the prior" in words(4, 0.8)


def test_the_elbo_on_training_examples_is_the_models_own(asked):
    _, groups = asked("probe-vs-alpha")
    model = groups[1].model()
    x = model.scaler(DIGITS.train.x)
    with torch.no_grad():
        direct = torch.stack([model(x).elbo for _ in range(20)]).mean().item()
    whole = hard_elbo(model, DIGITS, most=len(x))
    assert whole == pytest.approx(direct, abs=0.2)
    some = hard_elbo(model, DIGITS, most=360)
    assert some != whole
    assert some == pytest.approx(direct, abs=1.0)  # 360 of 1293 examples, whose ELBOs vary by a few nats


def test_words_say_where_the_elbo_is_best(asked):
    ask, groups = asked("probe-vs-alpha")

    def words(*elbo):
        shown = by_alpha.draw_elbo(ask, [doctored(g, elbo=v) for g, v in zip(groups, elbo, strict=True)])
        return next(line for line in shown.words if "test ELBO:" in line)

    assert "rises by 3.0 nats from alpha 1 and then falls by 5.0" in words(-30.0, -27.0, -32.0)
    assert "best at alpha 1: it does not rise" in words(-20.0, -27.0, -32.0)
    assert "no falling half shows" in words(-30.0, -27.0, -22.0)


def test_probe_accuracies_are_those_of_the_codes(asked):
    ask, groups = asked("probe-vs-alpha")
    finding = by_alpha.draw_probe(ask, groups)
    model = groups[1].model()
    order = torch.randperm(len(DIGITS.train), generator=torch.Generator().manual_seed(0))[:5000]
    z, y = model.encode(DIGITS.train.x[order]).z.numpy(), DIGITS.train.y[order].numpy()
    direct = linear_probe(z, y, model.encode(DIGITS.test.x).z.numpy(), DIGITS.test.y.numpy(), counts=(100,))
    assert cell(finding, 1, "linear-100") == pytest.approx(direct[100], abs=1e-9)
    rising = [doctored(g, {"linear-100": v}) for g, v in zip(groups, (0.5, 0.6, 0.7), strict=True)]
    words = said(by_alpha.draw_probe(ask, rising))
    assert "J = 8, 100 labels: 0.500 at alpha 1, 0.600 at alpha 0.5, 0.700 at alpha 0.02; as alpha falls, " in words
    assert "100 labels" in words.partition("rises at every step")[0]
    bent = [doctored(g, {"linear-100": v}) for g, v in zip(groups, (0.5, 0.6, 0.55), strict=True)]
    assert "best at alpha 0.5, and 0.050 higher at the smallest" in said(by_alpha.draw_probe(ask, bent))


def test_the_gap_is_that_of_relaxed_draws_alone(asked):
    ask, groups = asked("stability")
    assert [g["spikes"] for g in groups] == [
        *("sigmoid, c = 1", "sigmoid, c = 50", "concrete, T = 0.5", "straight-through, T = 0.5"),
        *("mean", "disarm", "rloo"),
    ]
    for group in groups:
        relaxed = group["spikes"].startswith(("sigmoid", "concrete"))
        assert bool(group.values("relaxed_elbo")) == relaxed
        assert (stability.gap(group) != 0) == relaxed
        held = group.config.train
        assert held.relaxation == {"1": 1, "50": 50, "0.5": 0.5}.get(group["spikes"].rpartition(" ")[2])
    finding = stability.draw(ask, groups)
    elbo, latents = finding.figure.axes
    assert [label.get_text() for label in elbo.get_yticklabels()] == [g["spikes"] for g in groups]
    assert "nats" in elbo.get_xlabel()
    assert "latents" in latents.get_xlabel()


def test_words_say_what_collapses(asked):
    ask, groups = asked("stability")
    sound = [doctored(g, elbo=-20.0, used=6, always_on=0) for g in groups]
    sound = [doctored(g, relaxed_elbo=-20.0) if g.values("relaxed_elbo") else g for g in sound]
    words = said(stability.draw(ask, sound))
    assert "No relaxed ELBO lies more than 5 nats above" in words
    assert "0 of 3 with relaxed draws" in words
    assert "the report met does not reproduce" in words
    lost = [sound[0], doctored(sound[1], used=0, elbo=-40.0, relaxed_elbo=-25.0), *sound[2:]]
    words = said(stability.draw(ask, lost))
    assert "1 of 3 with relaxed draws (sigmoid, concrete), 0 of 4" in words
    assert "They are: sigmoid, c = 50 (alpha 0.5)." in words
    assert "in 1 of 3 relaxed settings, most in sigmoid, c = 50 (alpha 0.5): -25.0 against -40.0" in words
    assert "0 of 1 settings at c = 1 collapse and 1 of 1 at other c" in words
    assert "that the report met reproduces." in words
    assert "sigmoid 20.0" in words
    both = [doctored(lost[0], used=0), *lost[1:]]
    assert "c = 1 collapses too" in said(stability.draw(ask, both))


def test_validations_record_every_latent(asked):
    _, groups = asked("collapse")
    assert len(groups) == 5
    for group in groups:
        valid = [row for row in group.history() if row["split"] == "valid"]
        assert [row["step"] for row in valid] == [10, 20, 30]
        for row in valid:
            rates = np.array(row["rates"])
            assert rates.shape == (8,)
            assert (row["used"], row["always_on"]) == ((rates > 0.01).sum(), (rates > 0.99).sum())
            assert row["dead"] == (rates < 1e-4).sum()  # a single one of 144 examples is more
            assert rates.sum() == pytest.approx(row["active"], abs=8 * 5e-5 + 1e-6)
            assert sum(row["kl_latent"]) == pytest.approx(row["kl_slab"] + row["kl_spike"], abs=8 * 5e-5 + 1e-3)
        gamma = group.model().encode(DIGITS.valid.x).gamma
        np.testing.assert_allclose(valid[-1]["rates"], (gamma > 0.5).double().mean(0), atol=6e-5)
        steps, rates, kl = collapse.course(group)
        assert steps.tolist() == [10, 20, 30]
        assert rates.shape == kl.shape == (3, 8)


def test_models_without_gates_or_prior_record_what_they_have():
    for name, known in (("ae", {"rates"}), ("vae", {"rates", "kl_latent"}), ("laplace", {"rates", "kl_latent"})):
        config = resolve(Config(DataConfig("digits"), ModelConfig(name, latent_dim=4)), DIGITS)
        row = validate(build.new_model(config, DIGITS), DIGITS.valid.x, config)
        assert {key for key in row if isinstance(row[key], list)} == known
        assert row["rates"] == [1.0] * 4
        assert row["dead"] == 0


def test_words_say_whether_a_warm_up_keeps_latents(asked):
    ask, groups = asked("collapse")
    equal = [doctored(g, used=5, always_on=0, kl_slab=2.0, kl_spike=3.0, elbo=-20.0) for g in groups]
    finding = collapse.draw(ask, equal)
    words = said(finding)
    assert words.count("does not keep more latents in use than no warm-up: +0 used, +0.0 nats") == 3
    assert "1.00 nats per used latent" in words
    assert "collapsed" not in words
    assert [axes.get_xlabel() for axes in finding.figure.axes].count("step") == len(groups)
    more = said(collapse.draw(ask, [*equal[:2], doctored(equal[2], used=7, elbo=-19.0), *equal[3:]]))
    assert "VSC, lambda warm-up keeps more latents in use than no warm-up: +2 used, +1.0 nats" in more
    assert "has collapsed" in said(collapse.draw(ask, [doctored(equal[0], used=0), *equal[1:]]))


def test_runs_that_do_not_record_every_latent_are_named(asked, tmp_path):
    _, groups = asked("collapse")
    before = {name: value for name, value in groups[0].history()[-1].items() if not isinstance(value, list)}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(before) + "\n")
    old = replace(groups[0], jobs=[groups[0].jobs[0]._replace(folder=tmp_path)])
    with pytest.raises(RunError, match="does not record every latent"):
        collapse.course(old)


def test_the_largest_latents_are_kept():
    mu = torch.randn(50, 7)
    for k in (1, 3, 7):
        keep = soft_sparsity.largest(mu, k)
        assert keep.sum(1).tolist() == [k] * 50
        order = np.argsort(-np.abs(mu.numpy()), axis=1)[:, :k]
        assert all(keep[i, order[i]].all() for i in range(50))


def test_dense_codes_cut_to_all_their_latents_are_whole(asked):
    ask, groups = asked("soft-sparsity")
    assert [(g["model"], g["l0 asked"]) for g in groups] == [
        *(("VSC", 4.0), ("thresholded Laplace", 4.0), ("Laplace VAE", 6.0), ("VAE", 6.0))
    ]
    for group in groups[2:]:
        whole = soft_sparsity.truncated(group.model(), DIGITS, 6)
        assert whole.mse == pytest.approx(group.mean("mse"), rel=1e-4)
        assert whole.log_px == pytest.approx(group.mean("log_px"), abs=0.3)  # other draws
    finding = soft_sparsity.draw(ask, groups)
    cut = [row for row in finding.table.rows if row[0] == "VAE, largest kept"]
    assert [row[1] for row in cut] == [4.0]
    model = groups[3].model()
    x = model.scaler(DIGITS.test.x)
    mu = model.codes(x).mu
    fourth = mu.abs().sort(1, descending=True).values[:, 3:4]
    with torch.no_grad():
        direct = (model.decode(mu * (mu.abs() >= fourth)) - x).square().mean().item()
    assert cut[0][finding.table.columns.index("mse")] == pytest.approx(direct, rel=1e-4)


def test_words_say_whether_soft_sparsity_gains(asked):
    ask, groups = asked("soft-sparsity")
    hard = doctored(groups[0], elbo=-20.0, mse=0.02, l0=4.1)

    def words(**soft):
        return soft_sparsity.draw(ask, [hard, doctored(groups[1], **soft), *groups[2:]]).words[-3]

    assert "-5.0 to -5.0 nats" in words(elbo=-25.0, mse=0.03, l0=4.0)
    assert "1.5 to 1.5 times VSC's: no gain from soft sparsity." in words(elbo=-25.0, mse=0.03, l0=4.0)
    assert words(elbo=-15.0, mse=0.03, l0=4.0).endswith("a gain.")
    assert "thresholded Laplace missed the l0 of 4 (5.0)" in words(elbo=-15.0, mse=0.03, l0=5.0)
    cut = soft_sparsity.truncated(groups[3].model(), DIGITS, 4).log_px
    for better, verdict in ((1.5, "everywhere: log p(x|z) differs by +1.5 at l0 4"), (-1.5, "nowhere")):
        of_vsc = doctored(groups[0], log_px=cut - better)
        assert verdict in soft_sparsity.draw(ask, [of_vsc, *groups[1:]]).words[-1]
