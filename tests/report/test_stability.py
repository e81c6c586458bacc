"""The section and the column on which latents come back: what is said is what was matched."""

import re

import numpy as np
import pytest

from vsc.measure.returning import Trace, match_runs
from vsc.report import Page, page
from vsc.report.stability import MOST

undrawn = pytest.mark.usefixtures("undrawn")


def trace(change, latent, directed=True):
    K = len(change)
    rng = np.random.default_rng(0)
    return Trace(np.array(latent), np.linspace(0.9, 0.1, K), change, np.full(K, directed), rng.normal(size=(50, K)))


@pytest.fixture
def returning():
    """Three runs: of latents 5, 6 and 7, the first comes back in both others, the second in one, the third in none."""
    eye = np.eye(16)
    return match_runs([trace(eye[:3], [5, 6, 7]), trace(eye[[1, 0]], [8, 9]), trace(eye[[0, 4, 5]], [1, 2, 3])])


def rendered(entries, shape=(1, 4, 4), features=()):
    return page.render(
        Page("t", "d", shape, ("a", "b"), entries, "vsc compare", {}, "bernoulli", 100, features=features)
    )


def test_what_comes_back_is_what_was_shared(returning):
    assert returning.come_back == 1
    assert returning.other.tolist() == [[9, 8, -1], [1, -1, -1]]
    assert returning.cosine.tolist() == [[1, 1, 0], [1, 0, 0]]
    pairs = [2 * 2 / 5, 2 * 1 / 6, 2 * 1 / 5]
    assert returning.effects == pytest.approx(np.mean(pairs))


def test_a_match_of_the_other_sign_is_shown_on_the_same_side():
    eye = np.eye(4)
    found = match_runs([trace(eye[:2], [0, 1], False), trace(-eye[:2], [0, 1], False)])
    assert found.cosine.tolist() == [[1, 1]]
    assert found.change[0].tolist() == eye[:2].tolist()


def test_the_section_says_how_many_and_shows_pictures(returning, make_entry):
    html = rendered([make_entry(returning=returning, sd=0.1)])
    section = html.partition('<h2 id="returning">')[2].partition("</section>")[0]
    assert "<strong>1 of 3 latents of VSC come back in every seed (cosine ≥ 0.8).</strong>" in section
    assert (
        "latent 5: cosine 1.00, 1.00; latent 6: cosine 1.00, no match; latent 7: cosine no match, no match" in section
    )
    assert section.count("<img") == 1


@undrawn
def test_a_table_is_told_in_words(returning, make_entry):
    names = [f"column{i}" for i in range(16)]
    html = rendered([make_entry(returning=returning, sd=0.1, shape=(16,))], (16,), names)
    section = html.partition('<h2 id="returning">')[2].partition("</section>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", section)
    assert "<th" in rows[0]
    assert re.findall(r">([^<]*seed \d)<", rows[0]) == ["seed 0", "seed 1", "seed 2"]
    assert "latent 5</th><td>changes column0 by +1.00" in rows[1]
    assert "<td>cosine 1.00: changes column0 by +1.00" in rows[1]
    assert rows[3].count("<td>no match</td>") == 2


@undrawn
def test_the_model_called_vsc_is_the_one_that_is_shown(returning, make_entry):
    less = match_runs([trace(np.eye(16)[:1], [0]), trace(np.eye(16)[1:2], [0])])
    vae = make_entry("vae", title="VAE", spikes=False, returning=less)
    html = rendered([vae, make_entry(returning=returning)])
    assert "1 of 3 latents of VSC come back" in html
    last = [
        row.rpartition("<td")[2] for row in html.partition("<tbody>")[2].partition("</tbody>")[0].split("</tr>")[:2]
    ]
    column = [re.findall(r'value="([^"]*)"', cell)[0] for cell in last]
    assert ["★" in cell for cell in last] == [False, True]
    assert [float(value) for value in column] == [0.0, pytest.approx(returning.effects)]


@undrawn
def test_one_seed_has_neither_column_nor_section(make_entry):
    html = rendered([make_entry()])
    assert "come back" not in html
    assert 'data-key="stability"' not in html


@undrawn
def test_many_latents_are_shown_from_the_most_to_the_least_alike(make_entry):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 16))
    found = match_runs([trace(a, range(60)), trace(a + rng.normal(size=(60, 16)), range(60))])
    html = rendered([make_entry(returning=found, shape=(16,))], (16,))
    section = html.partition('<h2 id="returning">')[2].partition("</section>")[0]
    assert f"Shown are {MOST} of the 60" in section
    cosines = [float(value) for value in re.findall(r"<td>cosine ([\d.]+):", section)]
    assert len(cosines) == MOST
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[0] == pytest.approx(found.cosine.max(), abs=0.005)


@undrawn
def test_a_model_that_uses_no_latent_says_so(make_entry):
    nothing = match_runs([trace(np.zeros((0, 16)), np.zeros(0, int))] * 2)
    assert (nothing.effects, nothing.codes, nothing.come_back) == (0, 0, 0)
    assert "VSC uses no latent." in rendered([make_entry(returning=nothing)])
