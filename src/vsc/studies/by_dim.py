"""ELBO and probe accuracy against the number of latents J (ICLR figures 2, 3 and 9; UAI figure 1)."""

from typing import Any

from vsc.plots.charts import Curve, lines
from vsc.studies.base import Ask, Finding, Group, Row, Study, curves, parted, steps, tabulate

PUBLISHED = {
    # -ELBO by relaxed spikes (c = 50) after 20 000 steps of 32: training logs of the reproduction of ICLR (2019)
    "mnist": {
        "VAE": (111.3, 104.8, 104.8, 105.0, 105.2, 105.3, 105.4, 106.1, 106.1, 106.3),
        "VSC alpha 0.5": (117.8, 112.5, 111.8, 111.8, 111.9, 112.7, 112.7, 113.2, 114.4, 115.0),
        "VSC alpha 0.01": (141.9, 141.9, 142.8, 140.6, 142.1, 140.5, 141.5, 134.5, 136.4, 133.9),
    },
    "fashion-mnist": {
        "VAE": (243.2, 242.6, 242.9, 243.6, 242.9, 243.3, 244.4, 243.9, 244.3, 244.9),
        "VSC alpha 0.5": (247.4, 247.3, 248.2, 248.5, 248.6, 248.0, 248.7, 249.7, 250.3, 250.3),
        "VSC alpha 0.01": (266.8, 263.7, 264.5, 262.0, 261.9, 264.2, 263.3, 262.0, 258.7, 256.6),
    },
}
PUBLISHED_J = (8, 16, 24, 32, 48, 64, 96, 128, 160, 200)
PUBLISHED_PROBE = {"mnist": 0.918, "fashion-mnist": 0.797}
"""Best accuracy of that reproduction's VSC with alpha 0.01, at J = 200, 5000 labels."""

DIMS = (2, 8, 20, 50, 100, 200)
ALPHAS = (0.5, 0.2, 0.01)
LIMITS = (0.25, 0.5, 1.0)
"""Shares of the steps at which the validation ELBO is tabulated: the figure's iteration limits, from one run."""

LIKELIHOODS = {
    "bernoulli, [0, 1]": {"data.scale": "unit-interval", "model.likelihood": "bernoulli"},
    "gaussian, unit norm": {"data.scale": "unit-norm", "model.likelihood": "gaussian"},
    "gaussian, standardised": {"data.scale": "standard", "model.likelihood": "gaussian"},
}
"""As the reproduction and the report have it, as the ICLR paper has it, and for data that are no images."""


def likelihoods(ask: Ask) -> list[str]:
    """Return the names of those that suit the data."""
    return list(LIKELIHOODS)[:2] if ask.image else ["gaussian, standardised"]


def base(ask: Ask) -> dict[str, Any]:
    """Return the settings of every run that the studies of J and of alpha share."""
    own = {"train.steps": steps(ask, 5000, 20_000), "model.hidden": (400,)}
    if not ask.image:  # learned variances of tables and signals can run away at the images' rate
        own |= {"train.lr": 3e-4, "train.clip": 10.0}
    return own | ({"train.batch_size": 32} if ask.full else {})


def row(ask: Ask, likelihood: str, model: str, J: int, alpha: float | None = None, beta: float = 1.0) -> Row:
    """
    Return one row: a VSC with the fixed prior, or a VAE with a beta where there is no alpha.

    It has the same settings wherever it is asked for, so that studies share the run; `likelihood` is a name in
    `LIKELIHOODS`, `model` what it is called in the table.
    """
    settings = base(ask) | LIKELIHOODS[likelihood] | {"model.latent_dim": J}
    if alpha is None:
        rises = "gaussian" in likelihood  # as beta does by itself while variances are learned
        settings |= {"model.name": "vae"}
        settings |= {"train.beta": f"0 -> {beta} at 0 over 0.1" if rises else beta} if beta != 1 else {}
    else:
        settings |= {"model.name": "vsc", "model.gates": "fixed", "model.alpha": alpha}
    return Row({"likelihood": likelihood, "model": model, "J": J}, settings)


def elbo_rows(ask: Ask) -> list[Row]:
    """Return VAE, beta-VAE and VSC over J, for both likelihoods."""
    alphas = ask.alphas or ALPHAS
    rows = []
    for likelihood in likelihoods(ask):
        for J in ask.dims or DIMS:
            rows.append(row(ask, likelihood, "VAE", J))
            if not likelihood.endswith("unit norm"):
                rows.append(row(ask, likelihood, "beta-VAE (4)", J, beta=4.0))
            rows += [row(ask, likelihood, f"VSC alpha {alpha:g}", J, alpha) for alpha in alphas]
    return rows


def draw_elbo(ask: Ask, groups: list[Group]) -> Finding:
    """Draw the ELBO over J, and say how far it falls from its best J to the largest."""
    panels, words = {}, []
    for likelihood, own in parted(groups, "likelihood").items():
        panels[likelihood] = curves(own, "elbo")
        falls = {
            name: (max(curve.y) - curve.y[-1], max(zip(curve.y, curve.x, strict=True))[1])
            for name, curve in panels[likelihood].items()
        }
        vae = falls["VAE"][0]
        J = max(group["J"] for group in own)
        listed = ", ".join(f"{name} {fall:.1f} (best at J {best})" for name, (fall, best) in falls.items())
        smaller = [name for name, (fall, _) in falls.items() if name.startswith("VSC") and fall < vae]
        verdict = f"smaller than the VAE's for {', '.join(smaller) or 'none of the VSCs'}"
        words.append(f"With {likelihood}, the ELBO's fall from its best J to J = {J}, in nats: {listed}; {verdict}.")
        if likelihood.startswith("bernoulli") and ask.data.name in PUBLISHED:
            for name, values in PUBLISHED[ask.data.name].items():
                panels[likelihood][f"{name}, published (relaxed spikes)"] = Curve(
                    PUBLISHED_J, [-value for value in values], dashed=True
                )
    figure = lines(panels, "J: number of latents (log scale)", "ELBO (nats per example)", log=True)
    table = tabulate(groups, ("elbo", "log_px", "kl_slab", "kl_spike", "l0", "used", "always_on", "minutes"))
    table = table.beside([f"valid ELBO at {share:g}" for share in LIMITS], map(_limits, groups))
    return Finding(figure, "ELBO against J, one curve for each model.", table, words)


def _limits(group: Group) -> list[float | None]:
    """Return the first seed's validation ELBO at shares of its steps."""
    rows = [one for one in group.history() if one["split"] == "valid"]
    last = group.config.train.steps or 0
    found = []
    for share in LIMITS:
        upto = [one["elbo"] for one in rows if one["step"] <= share * last]
        found.append(upto[-1] if upto else None)
    return found


def probe_rows(ask: Ask) -> list[Row]:
    """Return VAE and the sparsest VSC over J."""
    alpha = min(ask.alphas or ALPHAS)
    likelihood = likelihoods(ask)[0]
    return [
        one
        for J in ask.dims or DIMS
        for one in (row(ask, likelihood, "VAE", J), row(ask, likelihood, f"VSC alpha {alpha:g}", J, alpha))
    ]


def draw_probe(ask: Ask, groups: list[Group]) -> Finding:
    """Draw the accuracy of a linear classifier on the codes over J."""
    found = curves(groups, "probe")
    vae, (name, vsc) = found["VAE"], next((n, c) for n, c in found.items() if n != "VAE")
    best_vae, best = max(vae.y), max(vsc.y)
    words = [
        f"{name}: {vsc.y[-1]:.3f} at J = {vsc.x[-1]}, its best {best:.3f}; the VAE's best {best_vae:.3f}, "
        f"{vae.y[-1]:.3f} at J = {vae.x[-1]}."
    ]
    large = [(J, y) for J, y in zip(vsc.x, vsc.y, strict=True) if J >= 100]
    if large:
        above = all(y > best_vae for _, y in large)
        near = all(y > best - 0.01 for _, y in large)
        words.append(
            f"From J = 100 on, VSC is {'above' if above else 'not everywhere above'} the VAE's best and "
            f"{'within one point of' if near else 'more than one point below'} its own best."
        )
    if ask.data.name in PUBLISHED_PROBE:
        level = PUBLISHED_PROBE[ask.data.name]
        x = [min(vsc.x), max(vsc.x)]
        found["VSC alpha 0.01, published at J 200"] = Curve(x, [level, level], dashed=True)
    panels = {"logistic regression on the codes of 5000 labelled examples": found}
    figure = lines(panels, "J: number of latents (log scale)", "test accuracy (share)", log=True)
    return Finding(figure, "Accuracy against J.", tabulate(groups, ("probe", "l0", "used", "elbo")), words)


ELBO = Study(
    title="ELBO against the number of latents",
    source="ICLR figures 2 and 9, UAI figure 1",
    claim="The VAE's ELBO falls as J grows beyond what the data need; VSC's stays.",
    minutes=15,
    rows=elbo_rows,
    draw=draw_elbo,
)

PROBE = Study(
    title="Classification on codes against the number of latents",
    source="ICLR figure 3",
    claim="A one-layer classifier on VSC codes keeps its accuracy at large J, where that on VAE codes falls.",
    minutes=5,
    rows=probe_rows,
    draw=draw_probe,
    needs=("labels",),
)
