"""What the page says: which cell is best, which sentence follows from which number, which settings differ."""

import math

import pytest

from vsc.report import Entry, settings, words
from vsc.report import scores as table_of
from vsc.report.summary import sentences


def best(rows, key):
    """Which rows are marked in a column."""
    index = [column.key for column in table_of.columns(rows)].index(key)
    return [cells[index].best for cells in table_of.table(rows)]


def said(rows, spikes, seeds=None, examples=400):
    """Sentences on models m0, m1 and so on of 10 latents: the scores of one seed or of each, and if they spike."""
    settings = [{"train": {"seed": seed}, "data": {"seed": i}} for i, seed in enumerate(seeds or [7] * len(rows))]
    entries = [
        Entry(f"m{i}", f"m{i}", 10, spiked, row if isinstance(row, list) else [row], one)
        for i, (row, spiked, one) in enumerate(zip(rows, spikes, settings, strict=True))
    ]
    return {sentence.topic: sentence.text for sentence in sentences(entries, "shapes", examples)}


@pytest.mark.parametrize(
    ("key", "values", "marked"),
    [
        ("elbo", [None, -99.0, -98.0], [False, False, True]),
        ("elbo", [-98.0, -98.001, -99.0], [True, True, False]),
        ("elbo", [-98.0, -98.0, -98.0], [False, False, False]),
        ("elbo", [None, None, -98.0], [False, False, False]),
        ("elbo", [math.nan, -99.0, -98.0], [False, False, True]),
        ("mse", [0.03, 0.01, 0.02], [False, True, False]),
        ("denoise_mse", [0.03, 0.01, 0.01], [False, True, True]),
        ("denoise_psnr", [math.inf, 20.0, 21.0], [True, False, False]),
        ("probe", [0.5, 0.7, None], [False, True, False]),
        ("kl_slab", [0.0, 1.0, 2.0], [False, False, False]),
        ("l0", [1.0, 2.0, 3.0], [False, False, False]),
        ("used", [1, 2, 3], [False, False, False]),
    ],
)
def test_best_of_a_column(scores, key, values, marked):
    assert best([scores._replace(**{key: value}) for value in values], key) == marked


def test_the_relaxed_bound_is_never_best(scores):
    rows = [scores._replace(relaxed_elbo=-1.0), scores._replace(relaxed_elbo=-50.0), scores]
    assert best(rows, "relaxed") == best(rows, "gap") == [False] * 3


def test_every_score_has_a_column(scores):
    rows = [scores._replace(relaxed_elbo=-1.0)]
    shown = {cell.value for cell in table_of.table(rows)[0]}
    assert {value for value in rows[0]._replace(probe=90.0) if value is not None} <= shown


def test_the_bound_sentence_names_the_best_and_its_lead(scores):
    rows = [scores._replace(elbo=None), scores._replace(elbo=-100.0), scores._replace(elbo=-97.5)]
    text = said(rows, [False, False, True])["Bound"]
    assert text.startswith("m2 has the best bound")
    assert "−97.50" in text
    assert "2.50 nats above the next, m1" in text


def test_a_tie_is_called_one(scores):
    assert "m0 and m1 share" in said([scores, scores], [True, True])["Bound"]


def test_sentences_without_their_numbers_are_left_out(scores):
    row = scores._replace(elbo=None, probe=None)
    assert not {"Bound", "Price", "Classes"} & set(said([row], [False]))


def test_the_price_of_sparsity_is_taken_against_the_best_dense_bound(scores):
    rows = [scores._replace(elbo=e) for e in (-100.0, -98.0, -101.5, -97.0, -98.001)]
    text = said(rows, [False, False, True, True, True])["Price"]
    assert "dense code of m1" in text
    assert "m2 loses 3.50" in text
    assert "m3 gains 1.00" in text
    assert "m4 is level" in text


def test_the_code_sentence_counts_latents(scores):
    rows = [scores._replace(l0=10.0, active=10.0), scores._replace(l0=4.5, active=2.34)]
    text = said(rows, [False, True])["Code"]
    assert "2.3 in m1" in text
    assert "m0 uses all 10" in text
    assert "4.5" not in text  # l0 counts dead latents too


@pytest.mark.parametrize(
    ("psnr", "expected"),
    [((22.5, 21.0), "with m0 gives 22.50 dB, 2.50 dB better"),
     ((19.0, 22.0), "m0 does no better than doing nothing"),
     ((18.0, 19.0), "no model’s reconstruction")],
)  # fmt: skip
def test_denoising_is_held_against_doing_nothing(scores, psnr, expected):
    rows = [scores._replace(denoise_psnr=p, noisy_psnr=20.0) for p in psnr]
    assert expected in said(rows, [True, True])["Noise"]


def test_the_probe_comes_with_its_sampling_error(scores):
    # sqrt(0.9 * 0.1 / 400) = 1.5 %
    text = said([scores], [True])["Classes"]
    assert "±1.5 points" in text
    assert "between seeds it can move by more" in text
    few = said([scores._replace(probe=1.0)], [True], examples=36)
    # 38 of 40: sqrt(0.95 * 0.05 / 40) = 3.4 %; 36 right of 36 are no proof of always
    assert "±3.4 points" in few["Classes"]


def test_a_single_seed_is_called_no_proof(scores):
    assert "seed 7" in said([scores, scores], [True, True])["Trust"]
    assert "not proof" in said([scores, scores], [True, True], seeds=[1, 2])["Trust"]


def test_several_seeds_are_not_called_a_single_run(scores, seeds):
    for spread, close in ((0.7, True), (0.3, False)):
        rows = [seeds(scores._replace(elbo=-100.0), 0.1), seeds(scores._replace(elbo=-99.5), spread)]
        text = said(rows, [True, True])
        assert "mean of 3 seeds" in text["Trust"]
        assert "single run" not in text["Trust"]
        assert ("less than seeds differ" in text["Bound"]) == close


def test_the_spread_over_seeds_stands_in_the_cell(scores):
    rows, spreads = [scores, scores], [scores._replace(elbo=0.1234, used=1.25, mse=0.0021, probe=0.012), None]
    keys = [column.key for column in table_of.columns(rows)]
    first, second = (dict(zip(keys, cells, strict=True)) for cells in table_of.table(rows, spreads))
    assert first["elbo"].spread == "±0.12"
    assert first["used"].spread in ("±1.2", "±1.3")
    assert first["mse"].spread == "±0.002"
    assert first["probe"].spread == "±1.2"
    assert {cell.spread for cell in second.values()} == {""}


def test_settings_are_split_by_whether_they_differ():
    one = {"seed": 0, "model": {"alpha": 0.1, "nets": {"hidden": [400]}}, "extra": {}}
    two = {"seed": 0, "model": {"alpha": 0.2, "nets": {"hidden": [400]}, "name": "x"}, "extra": {}}
    differing, common = settings.compare([one, two])
    assert differing == [("model.alpha", ["0.1", "0.2"]), ("model.name", ["–", "x"])]
    assert common == [("seed", "0"), ("model.nets.hidden", "[400]"), ("extra", "{}")]


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [(-98.3, ".2f", "−98.30"), (-0.001, ".2f", "0.00"), (0.019, "#.3g", "0.0190"), (123.4, "#.3g", "123"),
     (math.inf, ".2f", "∞"), (math.nan, ".2f", "not a number"), (4.2, "+.2f", "+4.20")],
)  # fmt: skip
def test_numbers_are_printed_for_readers(value, spec, text):
    assert words.number(value, spec) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (59.99, "1 min 0 s"), (75, "1 min 15 s"), (7801, "2 h 10 min")]
)
def test_times_are_printed_in_the_unit_that_suits(seconds, text):
    assert words.duration(seconds) == text
