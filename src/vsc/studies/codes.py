"""Inputs, their codes and what these decode to, at several prior spike probabilities (ICLR figure 7)."""

import itertools

import numpy as np

from vsc.measure.showcase import choose_examples
from vsc.model.sampling import decode
from vsc.plots.pictures import Change, codes_beside
from vsc.studies import by_dim, models
from vsc.studies.base import Ask, Finding, Group, Row, Study, tabulate

ALPHAS = (1.0, 0.5, 0.2)
J = 200
SHOWN = 5


def rows(ask: Ask) -> list[Row]:
    """Return a VSC for each alpha; the same runs as those of the studies over J and alpha."""
    latents = ask.dims[-1] if ask.dims else J
    likelihood = by_dim.likelihoods(ask)[0]
    return [
        by_dim.row(ask, likelihood, "VSC", latents, alpha)._replace(facets={"alpha": alpha, "J": latents})
        for alpha in ask.alphas or ALPHAS
    ]


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw codes as bars, and count what is on."""
    test = ask.data.test
    chosen = choose_examples(test, SHOWN)
    inputs = groups[0].model().scaler(test.x[chosen]).numpy()
    columns = {}
    for group in groups:
        model = group.model()
        code = model.encode(test.x[chosen]).hard.numpy()
        pictures = decode(model, code)
        columns[f"alpha {group['alpha']:g}"] = [
            Change(f"{np.count_nonzero(z)} of {len(z)} on", z, picture)
            for z, picture in zip(code, pictures, strict=True)
        ]
    named = list(zip(models.captions(ask, chosen), inputs, strict=True))
    figure = codes_beside(named, columns, ask.data.shape)
    ordered = sorted(groups, key=lambda group: -group["alpha"])
    active, error = [g.mean("active") for g in ordered], [g.mean("mse") for g in ordered]
    listed = ", ".join(
        f"{on:.1f} at alpha {g['alpha']:g} (l0 {g.mean('l0'):.1f}, squared error {mse:.4f})"
        for g, on, mse in zip(ordered, active, error, strict=True)
    )
    words = [f"Latents on per example, of {groups[0]['J']}: {listed}."]
    if len(ordered) > 1:
        sparser = all(a > b for a, b in itertools.pairwise(active))
        words.append(
            f"Codes get sparser with alpha: {'yes' if sparser else 'not at every step'}; the sparsest code's squared "
            f"error is {error[-1] / max(error[0], 1e-12):.2f} times that of the densest."
        )
    table = tabulate(groups, ("active", "l0", "used", "always_on", "mse", "elbo", "minutes"))
    return Finding(figure, "Inputs, bar plots of their codes, and what these decode to.", table, words)


STUDY = Study(
    title="Codes and reconstructions at several sparsities",
    source="ICLR figure 7",
    claim="Examples of sparse codes and their reconstructions at alpha 1, 0.5 and 0.2.",
    minutes=3,
    rows=rows,
    draw=draw,
    needs=("images",),
)
