"""Studies that draw pictures and codes: their numbers against direct computation, their shared runs, their figures."""

import math
from io import BytesIO

import numpy as np
import pytest
import torch

from vsc import data
from vsc.data.split import Dataset, Split
from vsc.errors import UsageError
from vsc.measure.scores import add_noise
from vsc.plots.charts import class_maps
from vsc.plots.pictures import Case, Change, Strip, alteration, altered, codes_beside, mosaics
from vsc.settings.commands import RunStudy
from vsc.settings.config import Config, DataConfig, TrainConfig
from vsc.settings.presets import changed
from vsc.settings.schedule import Schedule
from vsc.studies import (
    STUDIES,
    Ask,
    Group,
    ancestral,
    by_dim,
    conditional,
    conduct,
    denoise,
    interpolation,
    models,
    traversal,
)
from vsc.studies.base import Row, tabulate
from vsc.studies.nearest import Known, known, nearest, rms
from vsc.sweep.jobs import plan, sweep

DIGITS = data.load("digits")
ASK = Ask(DIGITS, steps=30, dims=(8,))
COMMON = Config(DataConfig("digits"), train=TrainConfig(steps=30, valid_every=30))
PICTURES = ("latent-grid", "activations", "denoise", "codes", "traversal", "interpolation", "ancestral", "conditional")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


def opened(settings):
    """In so few steps a gate that starts at one half is shut; one that starts open is on."""
    return settings | ({"model.gate_init": 3.0} if settings["model.name"] == "vsc" else {})


@pytest.fixture(scope="module")
def made(root):
    """Return a function name -> (its groups, what it found); runs are found again."""
    found = {}

    def make(name):
        if name not in found:
            rows = STUDIES[name].rows(ASK)
            jobs = [plan(row.label, changed(COMMON, opened(row.settings)), root, row.metrics) for row in rows]
            results = sweep(jobs, tell=lambda line: None)
            groups = [Group(*one) for one in zip(rows, ([j] for j in jobs), ([r] for r in results), strict=True)]
            found[name] = groups, STUDIES[name].draw(ASK, groups)
        return found[name]

    return make


def column(table, name):
    return [row[table.columns.index(name)] for row in table.rows]


def folders(make, name):
    return {group["model"] + str(group["J"]): group.jobs[0].folder for group in make(name)[0]}


@pytest.mark.parametrize("name", PICTURES)
def test_every_study_draws_tabulates_and_speaks(name, made):
    groups, found = made(name)
    found.figure.savefig(BytesIO(), format="png", dpi=20)
    assert found.figure.axes
    shown = [axes for axes in found.figure.axes if axes.images or axes.lines or axes.collections]
    assert any(axes.get_title("left") or axes.get_xlabel() or axes.get_ylabel() or axes.texts for axes in shown)
    assert found.words
    assert all("nan" not in sentence for sentence in found.words)
    assert all(sentence.endswith(".") for sentence in found.words)
    assert found.table.rows
    assert all(len(row) == len(found.table.columns) for row in found.table.rows)
    assert len(set(found.table.columns)) == len(found.table.columns)
    assert STUDIES[name].claim.endswith(".")
    for word in ("elbo", "mse"):
        if word in found.table.columns:
            expected = [getattr(group.results[0].scores, word) for group in groups]
            assert column(found.table, word) == [None if e is None else pytest.approx(e) for e in expected]


def test_studies_share_their_runs(made):
    grid, noise, maps = (folders(made, name) for name in ("latent-grid", "denoise", "activations"))
    assert len(grid) == 4
    assert grid.items() <= noise.items()
    assert grid.items() <= maps.items()
    assert maps.items() <= noise.items()
    one = folders(made, "traversal")
    assert one == folders(made, "interpolation")
    assert one.items() <= maps.items()
    assert one.items() <= folders(made, "conditional").items()
    assert folders(made, "conditional").items() <= folders(made, "ancestral").items()
    assert folders(made, "ancestral")["VAE8"] == maps["VAE8"]


def test_codes_share_the_runs_of_the_studies_over_j(root, made):
    ask = Ask(DIGITS, steps=30, dims=(8,), alphas=(0.5,))
    theirs = {
        plan("", changed(COMMON, opened(row.settings)), root).folder
        for row in STUDIES["elbo-vs-dim"].rows(ask)
        if row.facets["likelihood"] == by_dim.likelihoods(ask)[0]
    }
    own = {group["alpha"]: group.jobs[0].folder for group in made("codes")[0]}
    assert own[0.5] in theirs
    assert set(own) == {1.0, 0.5, 0.2}


def test_full_settings_are_those_of_the_sources():
    ask = Ask(DIGITS, full=True)
    conv = {row.facets["model"]: row.settings for row in models.planar(ask)}
    assert {(s["train.batch_size"], s["train.steps"]) for s in conv.values()} == {(256, 5273)}
    mlp = {row.facets["model"]: row.settings for row in models.dense(ask, 60)}
    assert {(s["train.batch_size"], s["train.steps"]) for s in mlp.values()} == {(500, 70_000)}
    assert Schedule.parse(mlp["VSC-WU dynamic"]["train.lam"])(15.5 / 70) == pytest.approx(0.1)
    assert {row.facets["J"] for row in denoise.rows(ask)} == {2, 20, 60}


def test_denoised_numbers_are_those_of_a_direct_computation(made):
    groups, found = made("denoise")
    clean = DIGITS.test.x.float() / 16
    for name in ("VAE", "VSC dynamic"):
        at = next(i for i, g in enumerate(groups) if (g["model"], g["J"]) == (name, 8))
        model = groups[at].model()
        noisy = add_noise(clean, 0)
        assert noisy.min() >= 0
        assert noisy.max() <= 1
        with torch.no_grad():
            codes = model.codes(noisy)
            hard, soft = (model.decode(z) for z in (torch.where(codes.gamma > 0.5, codes.mu, 0.0), codes.z))
        for key, picture in (("denoise_psnr", hard), (denoise.MEAN, soft)):
            value = column(found.table, key)[at]
            if key == denoise.MEAN and name == "VAE":
                assert value is None
            else:
                expected = -10 * math.log10((picture - clean).square().mean().item())
                assert value == pytest.approx(expected, abs=1e-3)


def test_denoising_says_for_each_j_who_is_as_good_as_the_vae(made):
    groups, found = made("denoise")
    psnr = {(g["J"], g["model"]): g.mean("denoise_psnr") for g in groups}
    for J in (2, 8):
        said = next(sentence for sentence in found.words if sentence.startswith(f"J = {J}, "))
        gap = psnr[J, models.FREE] - psnr[J, "VAE"]
        part = said.split(models.FREE)[1].split(";")[0]
        assert ("of the VAE or above" in part) == (gap >= -0.3)


def test_activations_are_means_over_each_class(made):
    groups, found = made("activations")
    at = next(i for i, g in enumerate(groups) if (g["model"], g["J"]) == ("VSC dynamic", 8))
    codes = groups[at].model().encode(DIGITS.test.x)
    third = DIGITS.test.y == 3
    assert column(found.table, "|code|, 3")[at] == pytest.approx(codes.z[third].abs().mean().item(), rel=1e-4)
    assert column(found.table, "gamma, 3")[at] == pytest.approx(codes.gamma[third].mean().item(), rel=1e-4)
    vae = next(i for i, g in enumerate(groups) if g["model"] == "VAE")
    assert column(found.table, "gamma, 3")[vae] is None


def test_the_grid_is_the_decoded_plane(made):
    groups, found = made("latent-grid")
    from vsc.studies.latent_grid import grid

    with torch.no_grad():
        corner = groups[0].model().decode(torch.tensor([[2.0, -2.0]]))
    assert np.allclose(grid(groups[0])[9], corner[0].numpy(), atol=1e-5)  # z_1 = 2 ends the first row, z_2 = -2
    cells = grid(groups[0]).reshape(10, 10, -1)
    steps = [
        np.sqrt(np.square(a - b).mean(-1)).ravel() for a, b in ((cells[1:], cells[:-1]), (cells[:, 1:], cells[:, :-1]))
    ]
    assert column(found.table, "change per cell (RMS)")[0] == pytest.approx(np.concatenate(steps).mean(), rel=1e-4)


def test_altered_elements_change_alone(made):
    model = made("traversal")[0][0].model()
    seen = torch.cat([torch.full((10, 8), -1.0), torch.full((10, 8), 2.0), torch.zeros(10, 8)])
    x = DIGITS.test.x[:5]
    hard = model.encode(x).hard.numpy()
    found = traversal.alter(model, x, seen, 3)
    for k, i in enumerate(found.example):
        j = found.latent[k]
        assert np.flatnonzero(~np.isclose(found.code[k], hard[i], atol=1e-5)).tolist() in ([j], [])
        assert found.before[k] == pytest.approx(hard[i, j], abs=1e-5)
        assert found.after[k] == pytest.approx(2.0 if hard[i, j] < 0.5 else -1.0)


def test_a_change_of_few_pixels_is_concentrated():
    change = torch.zeros(100)
    change[:5] = 1.0
    assert traversal.concentration(change) == pytest.approx(1.0)
    assert traversal.concentration(torch.ones(100)) == pytest.approx(0.1)
    assert traversal.concentration(torch.zeros(100)) == 0.0


def test_the_path_of_gates_is_as_long_as_its_steps(made):
    groups, found = made("interpolation")
    lengths = {row[0]: row[5] for row in found.table.rows if str(row[0]).startswith("length")}
    model = groups[0].model()
    a, b = interpolation.choose_pair(ASK, model)
    assert DIGITS.test.y[a] != DIGITS.test.y[b]
    z = model.encode(DIGITS.test.x[[a, b]]).hard
    with torch.no_grad():
        ends = model.decode(z)
    direct = rms(ends[1] - ends[0]).item()
    assert lengths["length of the straight path"] >= direct - 1e-5
    assert lengths["length of the discrete path"] >= direct - 1e-5


def test_pairs_are_the_source_s_where_there_are_its_classes(made):
    model = made("interpolation")[0][0].model()
    classes = ("Shirt", "T-shirt/top", *(str(k) for k in range(2, 10)))
    named = Dataset("named", DIGITS.shape, DIGITS.train, DIGITS.valid, DIGITS.test, classes, high=16.0)
    pair = interpolation.choose_pair(Ask(named), model)
    assert DIGITS.test.y[list(pair)].tolist() == [0, 1]


def test_nearest_images_and_their_classes():
    to = Known(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([7, 2]))
    found = nearest(torch.tensor([[0.0, 1.0], [3.0, 4.0]]), to)
    assert found.distance.tolist() == pytest.approx([1 / math.sqrt(2), 0.0], abs=1e-6)
    assert found.label is not None
    assert found.label.tolist() == [7, 2]


def test_training_images_lie_nearest_to_themselves(made):
    model = made("traversal")[0][0].model()
    some = known(ASK, model, 50)
    found = nearest(some.x, some)
    assert found.distance.max() < 1e-3
    assert len(some.x) == 50


def test_overlap_of_sets():
    a = np.array([[True, True, False], [False, False, False]])
    b = np.array([[True, False, True], [False, False, False]])
    assert conditional.overlap(a, b) == pytest.approx((1 / 3 + 1) / 2)
    assert conditional.overlap(a, a) == 1.0


def test_conditional_samples_share_the_latents_of_their_input(made):
    _, found = made("conditional")
    for name in (conditional.OVERLAP, conditional.KEPT, conditional.AGAIN, conditional.PRIOR):
        assert all(0 <= value <= 1 for value in column(found.table, name))


def test_samples_count_what_is_on(made):
    groups, found = made("ancestral")
    assert column(found.table, "on in samples")[0] == 8  # the VAE's latents
    at = [g["model"] for g in groups].index("VSC")
    alpha = groups[at].config.model.alpha
    error = math.sqrt(8 * alpha * (1 - alpha) / 1000)
    assert column(found.table, "on in samples")[at] == pytest.approx(8 * alpha, abs=4 * error)


def test_columns_are_means_with_spread(tmp_path):
    job = plan("", COMMON, tmp_path)
    found = {1: [{"b": 1.0}, {"b": 3.0}], 2: [{"b": None}, {"b": None}]}
    table = tabulate([Group(Row({"a": a}, {}), [job, job], [], found[a]) for a in (1, 2)], ())
    assert table.columns == ("a", "seeds", "b", "b sd")
    assert table.rows == [(1, 2, 2.0, pytest.approx(math.sqrt(2))), (2, 2, None, None)]
    assert table.beside(["c"], [[5], [6]]).rows[1] == (2, 2, None, None, 6)


def table_of_numbers():
    generator = torch.Generator().manual_seed(0)
    parts = [Split(torch.randn(n, 6, generator=generator), torch.arange(n) % 2) for n in (60, 20, 20)]
    return Dataset("table", (6,), *parts, ("a", "b"))


@pytest.mark.parametrize("name", [name for name in PICTURES if name != "activations"])
def test_images_are_asked_for_before_anything_is_trained(name, tmp_path):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32))
    asked = RunStudy(DataConfig(str(tmp_path / "mine.npy")), train=TrainConfig(steps=5), out=str(tmp_path / "out"))
    with pytest.raises(UsageError, match="draws images"):
        conduct(name, STUDIES[name], asked, "")
    assert not (tmp_path / "out").exists()


def test_labels_are_asked_for_before_anything_is_trained(tmp_path):
    np.save(tmp_path / "mine.npy", np.arange(3200, dtype=np.uint8).reshape(50, 1, 8, 8))
    asked = RunStudy(DataConfig(str(tmp_path / "mine.npy")), train=TrainConfig(steps=5), out=str(tmp_path / "out"))
    with pytest.raises(UsageError, match="needs class labels"):
        conduct("activations", STUDIES["activations"], asked, "")
    assert not (tmp_path / "out").exists()


def test_activations_of_a_table_leave_the_convolutional_nets_out():
    ask = Ask(table_of_numbers(), dims=(4,))
    assert {row.facets["net"] for row in STUDIES["activations"].rows(ask)} == {"mlp"}


@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 4, 4)])
def test_charts_draw_grey_and_colour(shape):
    rng = np.random.default_rng(0)
    M = int(np.prod(shape))
    x, picture, code = rng.random(M), rng.random(M), np.array([0.0, 1.5, -2.0, 0.0])
    after = code.copy()
    after[1] = -1.0
    case = Case("a class", x, code, picture, [Change("latent 1", after, rng.random(M))])
    empty = Case("nothing on", x, np.zeros(4), picture, [])
    strip = {"a path": Strip(rng.random((3, M)), ["a", "b", "c"])}
    for figure in (
        altered([case, empty], shape, strip),
        altered([empty], shape),
        mosaics({"one": rng.random((6, M)), "two": rng.random((6, M))}, shape, 3, ("z1", "z2"), 2.0),
        codes_beside([("a", x)], {"alpha 1": [Change("2 of 4 on", code, picture)]}, shape),
    ):
        figure.savefig(BytesIO(), format="png", dpi=20)
        across, _ = figure.get_size_inches()
        for axes in figure.axes:
            left, bottom, width, height = axes.get_position().bounds
            assert left >= 0
            assert left + width <= 1 + 1e-6
            assert bottom >= -1e-6
            assert bottom + height <= 1 + 1e-6
        assert across <= 10.5


def test_an_altered_latent_is_ringed_numbered_and_coloured():
    code, after = np.array([0.0, 1.5, -2.0]), np.array([0.0, 1.5, 1.0])
    case = Case("x", np.zeros(16), code, np.zeros(16), [Change("latent 2", after, np.ones(16))])
    figure = altered([case], (1, 4, 4))
    before, then = figure.axes[0], next(axes for axes in figure.axes if axes.get_title("left") == "latent 2")
    assert [text.get_text() for text in before.texts] == ["2"]
    ends = [tuple(line.get_xydata()[0]) for line in then.lines if line.get_color() == "#D55E00"]
    assert ends == [(2.0, 1.0)]


def test_maps_of_classes_have_room_and_names():
    rng = np.random.default_rng(0)
    panels = {
        f"{name}, J = {J}": [("mean code", rng.normal(size=(10, J))), ("mean gamma", rng.random((10, J)))]
        for name in ("A", "B")
        for J in (2, 60)
    }
    figure = class_maps(panels, ["trousers"] * 10, "latents")
    figure.savefig(BytesIO(), format="png", dpi=20)
    maps = [axes for axes in figure.axes if axes.get_title("left")]
    assert len(maps) == 8
    assert all(axes.get_xlabel() for axes in maps)
    assert all(axes.get_position().x1 <= 1 for axes in figure.axes)


def test_two_kinds_are_told_apart_where_they_differ():
    same = torch.randn(400, 3)
    assert ancestral.told_apart(same[:200], same[200:] + 20) == 1.0
    assert ancestral.told_apart(same[:200], same[200:]) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(400))


def test_a_latent_that_is_switched_is_called_so():
    assert alteration(2, -6.94, 0.0) == "latent 2: −6.9 → off"
    assert alteration(2, 0.0, 1.0) == "latent 2: off → +1.0"
