"""Figures from made-up arrays: what is drawn is what was given, and every axis says what it shows."""

from io import BytesIO
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from vsc import plots
from vsc.measure.showcase import Showcase
from vsc.report.figures import picture

SHAPES = {"grey": (1, 5, 4), "colour": (3, 4, 5), "table": (12,), "long table": (90,), "one feature": (1,)}


def showcase(shape, J, C=3, labels=True, n=7, seed=0):
    rng = np.random.default_rng(seed)
    M = int(np.prod(shape))

    def draw(*size):
        return rng.normal(size=size).astype(np.float32) if len(shape) == 1 else rng.random(size).astype(np.float32)

    code = draw(n, J) * (rng.random((n, J)) < 0.4)
    return Showcase(
        x=draw(n, M),
        reconstruction=draw(n, M),
        noisy=draw(n, M),
        denoised=draw(n, M),
        code=code,
        label=rng.integers(0, C, n) if labels else None,
        class_code=draw(C if labels else 1, J),
        class_gamma=rng.random((C if labels else 1, J)).astype(np.float32),
        grid=draw(100, M) if J == 2 else None,
        effects=None,
    )


def effects(K, M, rng):
    """Return what K latents change, and three phrases on each."""
    return rng.normal(size=(K, M)), [(f"latent {k}", f"on for {k} %", "on, not off") for k in rng.permutation(K)]


def history(elbo, steps=(0, 100, 200)):
    return [
        {"step": s, "split": split, "elbo": elbo, "l0": 3.0 + s / 100, "used": 5}
        for s in steps
        for split in ("train", "valid")
    ]


def draw(figure):
    """Render, so that anything that fails or warns only when drawn does so here."""
    figure.savefig(BytesIO(), format="png", dpi=30)
    return figure


def titled(axes):
    return any(axes.get_title(place) for place in ("left", "center", "right"))


def unnamed(figure):
    """Axes with numbers along an axis but no word of what they are."""
    out = []
    for axes in figure.axes:
        for side, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            numbered = any(t.get_text() and t.get_visible() for t in axis.get_ticklabels())
            if numbered and not axis.get_label_text() and not rows_are_named(axes, side):
                out.append((figure.axes.index(axes), side))
        if not (axes.get_xlabel() or axes.get_ylabel() or titled(axes)):
            left = axes.get_position().x0
            neighbours = [a for a in figure.axes if abs(a.get_position().x0 - left) < 1e-6]
            if not any(titled(a) or a.get_xlabel() for a in neighbours):
                out.append((figure.axes.index(axes), "nothing"))
    return out


def rows_are_named(axes, side):
    """Rows that carry words instead of numbers name themselves."""
    words = [t.get_text() for t in axes.yaxis.get_ticklabels()]
    return side == "y" and any(word.strip("0123456789.−- ") for word in words)


CASES = [("grey", 200, True), ("grey", 2, False), ("colour", 1, True), ("table", 1, False), ("table", 2, True)]
CASES += [("long table", 200, True), ("one feature", 2, False)]


@pytest.mark.parametrize(("kind", "J", "labels"), CASES)
def test_every_figure_draws_and_names_its_axes(kind, J, labels):
    shape, classes = SHAPES[kind], ["ant", "bee", "cat"] if labels else []
    s = showcase(shape, J, labels=labels, n=2)
    names = [f"a long name of column {m}" for m in range(shape[0])] if labels and len(shape) == 1 else []
    figures = [
        plots.code_panels(s, shape, classes, features=names),
        plots.class_heatmap(s.class_code, classes, "mean code"),
        plots.class_heatmap(s.class_gamma, classes, "spike probability"),
        plots.denoising([s, s], ["VAE", "VSC"], shape, names),
        plots.effects(*effects(min(J, 9), s.x.shape[1], np.random.default_rng(0)), shape, names),
    ]
    if s.grid is not None:
        figures.append(plots.latent_grid(s.grid, shape))
    for figure in figures:
        assert isinstance(figure, Figure)
        assert unnamed(draw(figure)) == []


def test_training_curves_show_each_history_once_in_its_own_colour():
    figure = draw(plots.training_curves({"VAE": history(-90.0), "VSC": history(-95.0)}))
    elbo, l0, used = figure.axes
    assert unnamed(figure) == []
    assert "nats" in elbo.get_ylabel()
    assert [set(line.get_ydata()) for line in elbo.lines] == [{-90.0}, {-90.0}, {-95.0}, {-95.0}]
    assert len({line.get_color() for line in elbo.lines}) == 2
    assert [list(line.get_ydata()) for line in l0.lines] == [[3.0, 4.0, 5.0]] * 2
    assert [list(line.get_ydata()) for line in used.lines] == [[5.0] * 3] * 2


def test_training_curves_say_that_an_autoencoder_has_no_bound():
    rows = [{**row, "elbo": None} for row in history(0.0)]
    figure = draw(plots.training_curves({"AE": rows}))
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any("AE" in entry and "no bound" in entry for entry in entries)
    assert [text.get_text() for text in figure.axes[0].texts] == ["no values recorded"]


def test_a_steep_start_does_not_flatten_the_curve_and_is_owned_up_to():
    rows = [{"step": s, "split": "valid", "elbo": -1e4 if s == 0 else -100 + s / 100} for s in range(0, 1001, 100)]
    elbo = draw(plots.training_curves({"VSC": rows})).axes[0]
    assert elbo.get_ylim()[0] > -200
    assert "below the axis" in elbo.get_title("left")
    calm = draw(plots.training_curves({"VSC": rows[2:]})).axes[0]
    assert "below the axis" not in calm.get_title("left")


@pytest.mark.parametrize(("dip", "split"), [(300, "train"), (800, "valid")])
def test_one_dip_does_not_flatten_the_curves_and_is_owned_up_to(dip, split):
    rows = [{"step": s, "split": split, "elbo": -4200 if s == dip else -15 + s / 1000} for s in range(0, 1001, 100)]
    elbo = draw(plots.training_curves({"VAE": history(-14.0), "VSC": rows})).axes[0]
    low, high = elbo.get_ylim()
    assert -17 < low < -15
    assert high > -14
    assert "below the axis" in elbo.get_title("left")


def test_a_training_that_ends_low_is_shown():
    rows = [{"step": s, "split": "valid", "elbo": -4200 if s == 1000 else -15} for s in range(0, 1001, 100)]
    elbo = draw(plots.training_curves({"VSC": rows})).axes[0]
    assert elbo.get_ylim()[0] < -4200
    assert "below the axis" not in elbo.get_title("left")


def test_a_single_validation_is_a_visible_point():
    elbo, l0, used = draw(plots.training_curves({"VSC": history(-90.0, steps=[300])})).axes
    for axes in (elbo, l0, used):
        line = axes.lines[-1]
        assert list(line.get_xdata()) == [300]
        assert line.get_marker() not in ("", "None", None)
        assert line.get_markevery() == 1
        assert axes.get_xlim() == elbo.get_xlim()


@pytest.mark.parametrize("rows", [[], [{"step": 0, "split": "train", "elbo": float("nan")}]], ids=["none", "nan"])
def test_training_curves_without_a_number_still_draw(rows):
    figure = draw(plots.training_curves({"VSC": rows}))
    assert all("no values" in axes.texts[0].get_text() for axes in figure.axes)


@pytest.mark.parametrize("J", [1, 32, 800])
def test_a_latent_that_is_off_is_a_dot_and_never_a_bar(J):
    s = showcase((1, 5, 4), J)
    figure = plots.code_panels(s, (1, 5, 4), [], examples=3)
    codes = [axes for axes in figure.axes if axes.get_ylabel() == "code"]
    assert len(codes) == 3
    for axes, code in zip(codes, s.code, strict=False):
        bars = axes.collections[0].get_segments()
        assert {round(bar[0][0]) for bar in bars} == set(np.flatnonzero(code))
        assert [float(bar[1][1]) for bar in bars] == [float(v) for v in code[code != 0]]
        dots = next(line for line in axes.lines if line.get_marker() == ".")
        assert list(dots.get_xdata()) == list(np.flatnonzero(code == 0))
        assert axes.get_title("right") == f"{np.count_nonzero(code)} of {J} active"
    assert len({axes.get_ylim() for axes in codes}) == 1


def test_bars_are_called_a_hard_code_only_where_there_are_spikes():
    s = showcase((1, 5, 4), 32)
    hard, dense = (
        next(a for a in plots.code_panels(one, (1, 5, 4), []).axes if a.get_ylabel() == "code").get_title("left")
        for one in (s, s._replace(class_gamma=None))
    )
    assert "gamma > 1/2" in hard
    assert "gamma" not in dense


@pytest.mark.parametrize("K", [1, 8, 9])
def test_effects_on_images_are_the_differences_on_one_scale_around_zero(K):
    changes, labels = effects(K, 20, np.random.default_rng(0))
    axes = draw(plots.effects(changes, labels, (1, 5, 4))).axes
    cells, (bar,) = [a for a in axes if a.get_title("left")], [a for a in axes if not a.get_title("left")]
    assert len(cells) == K
    peak = np.abs(changes).max()
    for cell, words, change in zip(cells, labels, changes, strict=True):
        assert cell.get_title("left") == "\n".join(words)
        assert np.array_equal(cell.images[0].get_array(), change.reshape(5, 4))
        assert cell.images[0].get_clim() == (-peak, peak)
    assert bar.get_ylabel() == "change of the output"


def test_effects_on_colours_are_means_over_the_channels():
    change = np.array([[3.0, 0.0, -1.0, 0.0, 1.0, 0.0]], np.float32)  # three channels of two pixels
    assert np.asarray(plots.effects(change, [["latent 0"]], (3, 1, 2)).axes[0].images[0].get_array()).tolist() == [
        [1.0, 0.0]
    ]


@pytest.mark.parametrize("M", [12, 90])
def test_effects_on_a_table_are_a_map_of_latents_by_columns(M):
    (changes, labels), names = effects(5, M, np.random.default_rng(0)), [f"$col_{m}" for m in range(M)]
    axes, bar = draw(plots.effects(changes, labels, (M,), names)).axes
    assert np.array_equal(axes.images[0].get_array(), changes)
    low, high = axes.images[0].get_clim()
    assert -low == high == np.abs(changes).max()
    assert [t.get_text() for t in axes.get_yticklabels()] == [" · ".join(words) for words in labels]
    assert ([t.get_text().replace("\\", "") for t in axes.get_xticklabels()] == names) == (M == 12)
    assert bar.get_ylabel().startswith("change of the column")


def test_without_a_latent_there_is_no_effect_to_draw():
    with pytest.raises(ValueError, match="no latent"):
        plots.effects(*effects(0, 20, np.random.default_rng(0)), (1, 5, 4))


@pytest.mark.parametrize(("M", "given", "named"), [(20, 20, True), (21, 21, False), (20, 19, False)])
def test_columns_carry_their_names_where_they_fit(M, given, named):
    s, names = showcase((M,), 4, n=1), [f"col{m}" for m in range(given)]
    for figure in (
        plots.code_panels(s, (M,), [], features=names),
        plots.denoising([s], ["VSC"], (M,), names),
    ):
        ticks = {t.get_text() for a in draw(figure).axes for t in a.get_xticklabels()}
        assert (set(names) <= ticks) == named
        assert ("feature index" in {a.get_xlabel() for a in figure.axes}) != named


def test_heatmap_colours_are_centred_on_zero_for_codes_and_run_to_one_for_probabilities():
    matrix = np.array([[0.0, 3.0, -1.0]], dtype=np.float32)
    low, high = plots.class_heatmap(matrix, [], "mean code").axes[0].images[0].get_clim()
    assert (low, high) == (-3.0, 3.0)
    low, high = plots.class_heatmap(matrix.clip(0, 0.5), [], "spike probability").axes[0].images[0].get_clim()
    assert (low, high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="one of 'mean code'"):
        plots.class_heatmap(matrix, [], "colour")


@pytest.mark.parametrize(("C", "J"), [(100, 800), (10, 32), (2, 1)])
def test_heatmap_labels_do_not_overlap(C, J):
    figure = draw(plots.class_heatmap(np.zeros((C, J)), [f"class {c}" for c in range(C)], "spike probability"))
    for axis, start, end in ((figure.axes[0].xaxis, "x0", "x1"), (figure.axes[0].yaxis, "y0", "y1")):
        boxes = [t.get_window_extent() for t in axis.get_ticklabels() if t.get_text()]
        boxes = sorted(boxes, key=lambda box: getattr(box, start))
        assert boxes
        assert all(getattr(a, end) <= getattr(b, start) for a, b in pairwise(boxes))


def test_latent_grid_puts_the_first_latent_to_the_right_and_the_second_upwards():
    z = np.linspace(-2, 2, 10)
    z2, z1 = np.meshgrid(z, z, indexing="ij")
    brightness = (10 * (z2 + 2) + (z1 + 2)).reshape(100, 1)
    picture = plots.latent_grid(brightness.repeat(16, 1), (1, 4, 4)).axes[0].images[0]
    assert picture.origin == "upper"
    cells = np.asarray(picture.get_array())[3::6, 3::6]
    assert (np.diff(cells, axis=1) > 0).all()
    assert (np.diff(cells, axis=0) < 0).all()


def test_denoising_keeps_the_order_clean_noisy_models():
    shape = (1, 2, 2)
    levels = {"x": 1.0, "noisy": 0.75, "denoised": 0.5}
    s = showcase(shape, 3)._replace(**{key: np.full((7, 4), value, np.float32) for key, value in levels.items()})
    axes = draw(plots.denoising([s, s._replace(denoised=s.denoised / 2)], ["VAE", "$VSC"], shape)).axes[0]
    names = [t.get_text().replace("\\", "") for t in axes.get_yticklabels()]
    assert names == ["clean input", "noisy input", "VAE", "$VSC"]
    assert list(np.asarray(axes.images[0].get_array())[1::4, 1]) == [1.0, 0.75, 0.5, 0.25]


def test_colours_and_dark_images_keep_their_values():
    red = np.array([[1, 0, 0]], np.float32)  # one pixel, channels first
    s = showcase((3, 1, 1), 2, n=1)._replace(x=red, reconstruction=red)
    image = plots.code_panels(s, (3, 1, 1), []).axes[0].images[0].get_array()
    assert np.asarray(image).tolist() == [[[1, 0, 0]]]
    dim = np.linspace(0, 0.2, 20, dtype=np.float32)[None]  # as of images of unit norm
    s = showcase((1, 5, 4), 2, n=1)._replace(x=dim)
    assert np.asarray(plots.code_panels(s, (1, 5, 4), []).axes[0].images[0].get_array()).max() == 1


def test_numbers_that_are_not_finite_do_not_stop_a_figure():
    s = showcase((1, 5, 4), 8)
    broken = s._replace(
        **{key: np.full_like(getattr(s, key), np.nan) for key in ("reconstruction", "denoised", "code")}
    )
    assert draw(plots.code_panels(broken, (1, 5, 4), [])).axes
    assert draw(plots.denoising([broken], ["VSC"], (1, 5, 4))).axes
    assert draw(plots.class_heatmap(np.full((3, 8), np.nan), [], "mean code")).axes[0].images[0].get_clim() == (-1, 1)


def test_letters_that_the_font_lacks_do_not_stop_a_page():
    s = showcase((12,), 2, C=2)
    assert picture(plots.class_heatmap(s.class_code, ["猫", "犬"], "mean code"), "alt", "").source.startswith("data:")


def test_figures_leave_matplotlib_as_they_found_it():
    before = dict(matplotlib.rcParams)
    s = showcase((12,), 2)
    plots.code_panels(s, (12,), [])
    with pytest.raises(ValueError, match="unknown quantity"):
        plots.class_heatmap(s.class_code, [], "colour")
    assert dict(matplotlib.rcParams) == before


def test_a_front_shows_every_setting_and_the_dense_models():
    points = {"target": [(20, -100.0), (6, -105.0), (11, -101.0)], "penalty": [(10, -103.0)]}
    (axes,) = plots.front(points, {"VAE": -102.9}).axes
    drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert drawn["target"].tolist() == [[6, -105], [11, -101], [20, -100]]  # from left to right
    assert drawn["penalty"].tolist() == [[10, -103]]
    assert set(drawn["VAE"][:, 1]) == {-102.9}
    assert "nats per example" in axes.get_ylabel()
    assert "latents on per example" in axes.get_xlabel()


def test_codes_cut_to_few_elements_are_drawn_on_an_axis_to_base_two_with_the_whole_code_ringed():
    wide, one = [[1, 0.4], [2, 0.3], [8, 0.1]], [[2.5, 0.2]]
    figure = plots.nonzeros({"error": {"VAE": wide, "VSC": one}, "probe": {"VAE": [[0, 0.5], [4, np.nan], [8, 0.9]]}})
    error, probe = figure.axes
    assert (error.get_ylabel(), probe.get_ylabel()) == ("error", "probe")
    assert "non-zero" in error.get_xlabel()
    assert error.get_xscale() == "log"
    assert error.xaxis.get_transform().base == 2
    lines = [np.asarray(line.get_xydata()).tolist() for line in error.lines]
    assert lines == [wide, wide[-1:], one, one], "a curve and its ring, for each"
    assert [np.asarray(line.get_xydata()).tolist() for line in probe.lines] == [[[8, 0.9]]] * 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["VAE", "VSC"]
