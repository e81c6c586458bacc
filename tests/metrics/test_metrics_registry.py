"""The contract of every metric: in its range, deterministic, indifferent to what it says it is, and never NaN."""

import inspect
import math
import time

import numpy as np
import pytest

from vsc.errors import RunError, UsageError
from vsc.metrics import METRICS, Given, measurable, measure
from vsc.metrics.registry import Metric

NAMES = list(METRICS)
SCALED = {"active-units", "posterior-collapse", "knn"}  # the prior's or the space's unit matters
PERMUTED = {"dci"}  # but for the trees' random choice between equals


def given(N=120, J=6, **changes):
    """Return codes of two attributes with two factors each, and three classes."""
    rng = np.random.default_rng(0)
    y = np.arange(N) % 3
    presence = rng.random((N, 2)) < 0.5
    V = rng.normal(0, 0.5, (N, 4))
    gamma, mu = rng.random((N, J)), rng.normal(size=(N, J)) + np.eye(3, J)[y]
    k = min(J, 4)
    gamma[:, :k] = np.repeat(presence, 2, 1)[:, :k]
    mu[:, :k] += 2 * V[:, :k]
    z = np.where(gamma > 0.5, mu, 0)
    one = Given(z, gamma, mu, V, presence, ["hat", "hat", "eyes", "eyes"], y, z[: N // 2], y[: N // 2])
    x = rng.normal(size=(N, 7))
    dictionary = {"directions": rng.normal(size=(J, 7)), "true_directions": rng.normal(size=(5, 7))}
    known = dictionary | {"fires": rng.random((N, 5)) < 0.3, "x": x, "output": x + 0.5 * rng.normal(size=(N, 7))}
    return one._replace(**known | changes)


def blank(N, J, value):
    """Return the same truth, and constant codes."""
    z = np.full((N, J), float(value))
    return given(N, J)._replace(z=z, gamma=np.full((N, J), min(abs(value), 1.0)), mu=z, train_z=z[: max(N // 2, 1)])


def inside(found, metric):
    return all(metric.range[0] <= value <= metric.range[1] for value in found.values())


@pytest.mark.parametrize("name", NAMES)
def test_it_is_explained(name):
    metric = METRICS[name]
    text = inspect.getdoc(metric.function)
    assert "Cost:" in text
    assert "ange [0, 1]" in text or "Range" in text or "Bins" in text
    assert metric.better in ("higher", "lower", None)
    assert metric.range[0] < metric.range[1]
    assert set(metric.needs) <= set(Given._fields)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_finite_number_in_its_range(name):
    found = measure(given(), [name])
    assert inside(found, METRICS[name])
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert all(key == name or key.startswith(name + "-") for key in found)
    assert found == measure(given(), [name])


@pytest.mark.parametrize("name", NAMES)
def test_constant_codes_have_a_value(name):
    nothing = {"explicitness": 0.5, "presence": 0.5, "posterior-collapse": 1}
    chance = {"knn", "linear", "hoyer", "l0", "used", "always-on", "dead", "activity"}
    chance |= {"feature-f1", "feature-mcc", "feature-uniqueness", "fvu", "shrinkage"}  # of the decoder, or of being on
    for value in (0, 0.1, -3):
        found = measure(blank(60, 5, value), [name])
        assert inside(found, METRICS[name])
        if name not in chance:
            assert list(found.values()) == pytest.approx([nothing.get(name, 0)] * len(found), abs=1e-12)
        if value == 0 and name in ("hoyer", "l0", "used", "always-on"):
            assert found[name] == 0


@pytest.mark.parametrize("shape", [(5, 40), (1, 3), (2, 1), (40, 1)], ids=str)
def test_odd_shapes_have_a_value(shape):
    N, J = shape
    few = given(N, J)
    if N == 1:
        few = few._replace(train_z=few.z, train_labels=few.labels)
    for name in NAMES:
        assert inside(measure(few, [name]), METRICS[name]), name


@pytest.mark.parametrize("name", NAMES)
def test_one_attribute_one_class_and_nothing_present(name):
    one = given()
    for presence in (one.presence & False, one.presence | True):
        changed = one._replace(presence=presence, labels=np.zeros(120), train_labels=np.zeros(60))
        assert inside(measure(changed, [name]), METRICS[name])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PERMUTED])
def test_permuting_latents_changes_nothing(name):
    one = given()
    order = np.random.default_rng(1).permutation(6)
    other = one._replace(
        **{name: getattr(one, name)[:, order] for name in ("z", "gamma", "mu", "train_z")},
        directions=one.directions[order],
    )
    tolerance = 1e-9 if name != "multi-information" else 0.2  # its bias is drawn latent by latent
    assert measure(other, [name]) == pytest.approx(measure(one, [name]), abs=tolerance)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SCALED])
def test_scaling_latents_changes_nothing(name):
    one = given()
    scale = 2.0 ** np.array([3, -9, 1, 0, 20, -2])
    other = one._replace(z=one.z * scale, mu=one.mu * scale, train_z=one.train_z * scale)
    assert measure(other, [name]) == pytest.approx(measure(one, [name]), abs=1e-6)


HUGE = 1e300
CODES = {"z": 120, "gamma": 120, "mu": 120, "train_z": 60}


def codes(change):
    """Return the arrays of codes, each changed in the same way."""
    return {what: change(getattr(given(), what)) for what in CODES}


BAD = {
    "labels missing": {"labels": None, "train_labels": None, "train_z": None},
    "a single class": {"labels": np.zeros(120), "train_labels": np.zeros(60)},
    "a single class to learn from": {"train_labels": np.zeros(60)},
    "classes that were not learned": {"labels": np.full(120, 9)},
    "labels of another kind": {"train_labels": np.array(list("abc"))[np.arange(60) % 3]},
    "labels that are NaN": {"labels": np.full(120, np.nan)},
    "no labels to learn from": {"train_z": np.zeros((0, 6)), "train_labels": np.zeros(0)},
    "codes that are all zero": codes(np.zeros_like),
    "no latents": codes(lambda z: z[:, :0]),
    "no examples": codes(lambda z: z[:0]),
    "more latents than examples": given(8, 40)._asdict(),
    "a single example": given(1, 6)._asdict() | {"train_z": np.ones((1, 6)), "train_labels": [0]},
    "a single latent": given(120, 1)._asdict(),
    "constant factors": {"factors": np.full((120, 4), 0.3)},
    "constant factors, always there": {"factors": np.full((120, 4), 0.3), "presence": None, "groups": None},
    "factors that are all zero": {"factors": np.zeros((120, 4))},
    "a single constant factor": {"factors": np.where([1, 0, 1, 1], given().factors, 0.1)},
    "factors that are NaN": {"factors": np.full((120, 4), np.nan)},
    "factors of other examples": {"factors": given().factors[:50]},
    "presence that is no flag": {"presence": np.full((120, 2), 0.5)},
    "gamma that is no probability": {"gamma": 2 * given().gamma},
    "huge codes": codes(lambda z: HUGE * z) | {"gamma": given().gamma},
    "huge factors": {"factors": HUGE * given().factors},
    "the largest codes": codes(lambda z: 1e38 * z / np.abs(z).max()) | {"gamma": given().gamma},
    "tiny codes": codes(lambda z: z / HUGE),
    "tiny factors": {"factors": given().factors / HUGE},
    "half precision": codes(lambda z: z.astype(np.float16)) | {"factors": given().factors.astype(np.float16)},
}
for what in CODES:
    for value in (np.nan, np.inf):
        BAD[f"{value} in {what}"] = {what: np.where(np.arange(6) == 3, value, getattr(given(), what))}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_has_a_value_or_is_refused(case):
    """Without a warning, which would fail the test, and without NaN."""
    for name in NAMES:
        try:
            found = measure(given()._replace(**BAD[case]), [name])
        except UsageError as error:
            found, message = {}, str(error)
            said = "\n" not in message and 10 < len(message) < 200
        else:
            said = all(type(value) is float for value in found.values()) and len(found) > 0
        assert said, name
        assert inside(found, METRICS[name]), name


def test_what_never_changes_is_not_predicted():
    """R^2 of a constant is 1 by some conventions."""
    one = given(presence=None, groups=None)
    found = measure(one._replace(factors=np.where([1, 0, 1, 1], one.factors, 0.1)), ["dci"])
    three = measure(one._replace(factors=one.factors[:, [0, 2, 3]]), ["dci"])
    for part in ("dci-informativeness", "dci-completeness"):
        assert found[part] == pytest.approx(three[part] * 3 / 4)


@pytest.mark.parametrize("name", [name for name in NAMES if "factors" in METRICS[name].needs])
def test_factors_that_never_change_tell_nothing(name):
    constant = measure(given(factors=np.full((120, 4), 0.3), presence=np.ones((120, 2))), [name])
    # FactorVAE holds still what never moves: a latent's guess among all factors
    expected = {"explicitness": 0.5, "factor-vae": constant.get("factor-vae")}.get(name, 0)
    assert list(constant.values()) == pytest.approx([expected] * len(constant), abs=1e-12)
    assert constant.get("factor-vae", 0) < 0.4


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_refused(name):
    one = given()
    for field in ("z", "gamma", "mu", "factors", "train_z"):
        array = getattr(one, field).copy()
        array[3, 1] = np.nan
        looked_at = []
        try:
            found = measure(one._replace(**{field: array}), [name])
        except UsageError as error:
            looked_at.append(str(error))
        else:
            assert found == measure(one, [name]), f"{name} looks at {field} and takes NaN"
        assert all("NaN" in message for message in looked_at)


@pytest.mark.parametrize("name", [name for name in NAMES if METRICS[name].needs])
def test_what_is_missing_is_named(name):
    for need in METRICS[name].needs:
        with pytest.raises(UsageError, match=f"'{name}' needs {need.replace('_', ' ')}"):
            measure(given()._replace(**{need: None}), [name])
        assert name not in measurable(given()._replace(**{need: None}), slow=True)


def test_everything_missing_is_named_at_once():
    bare = Given(*given()[:3])
    with pytest.raises(UsageError, match="labels and train z and train labels"):
        measure(bare, ["hoyer", "knn"])
    assert {METRICS[name].needs for name in measurable(bare, slow=True)} == {()}
    with pytest.raises(UsageError, match="'mig' needs groups"):
        measure(given(groups=None), ["mig"])
    assert measure(given(groups=None), ["presence"]).keys() >= {"presence-0", "presence-1"}


def test_nothing_is_measured_before_every_name_is_known():
    with pytest.raises(UsageError, match="did you mean 'mcc'"):
        measure(given(), ["hoyer", "mccc"])


def test_slow_metrics_are_asked_for():
    assert "dci" not in measurable(given())
    assert measurable(given(), slow=True) == NAMES


def test_parts_have_names_of_their_own():
    found = measure(given(), ["presence", "dci", "knn"])
    assert {"presence-mean", "presence-min", "presence-hat", "presence-eyes"} <= set(found)
    assert {"dci-disentanglement", "dci-completeness", "dci-informativeness", "knn-100"} <= set(found)
    assert found["presence-hat"] == found["presence-eyes"] == 1


def test_a_part_is_asked_for_by_its_name():
    whole = measure(given(), ["knn"])
    assert measure(given(), ["knn-1000"]) == {"knn-1000": whole["knn-1000"]}
    assert measure(given(), ["knn-100", "mcc"]).keys() == {"knn-100", "mcc"}
    with pytest.raises(UsageError, match="knn-77"):
        measure(given(), ["knn-77"])


def sparse(N=6000):
    """Return codes of two perfect latents that are always on, and ten that are on for 2 % and nearly zero otherwise."""
    rng = np.random.default_rng(0)
    V = rng.uniform(0.5, 1.5, (N, 2))
    gamma = np.where(np.arange(12) < 2, 0.99, np.where(rng.random((N, 12)) < 0.02, 0.99, 0.01))
    mu = np.concatenate([V, rng.normal(size=(N, 10))], 1)
    return Given(gamma * mu, gamma, mu, factors=V)


def test_latents_that_are_seldom_on_do_not_vote():
    assert measure(sparse(), ["factor-vae"])["factor-vae"] == 1


def test_latents_that_are_never_on_are_not_selective():
    """Five latents that are always on and prefer no class, beside fifteen that idle with a mean code of their own."""
    rng = np.random.default_rng(0)
    y = np.arange(3000) % 10
    gamma = np.where(np.arange(20) < 5, 1.0, 0.01) * np.ones((3000, 1))
    mu = np.concatenate([rng.normal(size=(3000, 5)), 5 * np.eye(10)[y], 5 * np.eye(5)[y % 5]], 1)
    found = measure(Given(gamma * mu, gamma, mu, labels=y), ["class-selectivity", "hoyer"])
    assert found["class-selectivity"] < 0.1
    # Hoyer's sparsity of five normal values among twenty exact zeros is at least that of five equal ones
    assert found["hoyer"] > (math.sqrt(20) - math.sqrt(5)) / (math.sqrt(20) - 1)


@pytest.mark.parametrize("name", NAMES)
def test_each_metric_says_what_code_it_takes(name):
    """Other codes than the one that it names may be anything."""
    one, other = given(), np.random.default_rng(3).normal(size=(120, 6))
    if METRICS[name].code == "mean":
        assert measure(one._replace(mu=other), [name]) == measure(one, [name])
    else:
        assert measure(one._replace(z=other, train_z=other[:60]), [name]) == measure(one, [name])


def test_factors_count_only_where_they_are_present():
    one = given()
    gated = one._replace(factors=one.factors * np.repeat(one.presence, 2, 1))
    known = [name for name in NAMES if "factors" in METRICS[name].needs]
    assert measure(one, known) == measure(gated, known)
    everywhere = one._replace(presence=None, groups=None)
    assert measure(everywhere, ["mcc"]) != measure(one, ["mcc"])


def test_a_value_that_is_not_finite_is_no_score(monkeypatch):
    monkeypatch.setitem(METRICS, "broken", Metric(lambda z: math.nan))
    with pytest.raises(RunError, match="'broken' came out as nan"):
        measure(given(), ["broken"])


@pytest.mark.slow
def test_all_metrics_of_a_large_code_take_less_than_a_minute(faces):
    """20 000 x 200, DCI apart, in processor time."""
    rng = np.random.default_rng(0)
    N, J = 20_000, 200
    gamma, mu, y = rng.random((N, J)), rng.normal(size=(N, J)), rng.integers(0, 10, N)
    mu[:, :18] += faces.V
    mu[:, 20:30] += np.eye(10)[y]
    z = np.where(gamma > 0.5, mu, 0)
    large = Given(z, gamma, mu, faces.V, faces.presence, faces.groups, y, z, y)
    large = large._replace(**{name: rng.normal(size=(200, 50)) for name in ("directions", "true_directions")})
    large = large._replace(fires=gamma > 0.5, x=mu, output=z)
    names = measurable(large)
    assert set(NAMES) - set(names) == {"dci"}
    start = time.process_time()
    found = measure(large, names)
    assert time.process_time() - start < 60
    assert all(math.isfinite(value) for value in found.values())
