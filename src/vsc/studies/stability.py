"""How spike estimators and their sharpness bear on training: hard and relaxed ELBO, used latents (report 7.2.3)."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vsc.measure.scores import RELAXED
from vsc.plots.drawing import MARKERS, PALETTE, STYLE, WIDTH, axes_at
from vsc.settings.presets import PRESETS
from vsc.studies.base import Ask, Finding, Group, Row, Study, parted, steps, tabulate
from vsc.training.diagnosis import collapse

ALPHAS = (0.5, 0.1, 0.01)
J = 50
STEEPNESS = (1.0, 10.0, 50.0, 200.0)
TEMPERATURES = (0.25, 0.5, 1.0, 2.0)

GAP = 5.0
"""Nats by which a relaxed ELBO must exceed the hard one to be said to hide something."""


def estimators() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return each estimator with its sharpness held: label -> (its name in `spikes.SPIKES`, settings)."""
    found = {f"sigmoid, c = {c:g}": ("sigmoid", {"train.relaxation": c}) for c in STEEPNESS}
    for name in ("concrete", "straight-through"):
        for T in TEMPERATURES:
            found[f"{name}, T = {T:g}"] = (name, {"train.relaxation": T})
    return found | {name: (name, {}) for name in ("mean", "disarm", "rloo")}


def rows(ask: Ask) -> list[Row]:
    """Return VSC over estimators and alpha."""
    common = {"train.steps": steps(ask, 3000, 20_000), "model.latent_dim": (ask.dims or (J,))[0]}
    common |= PRESETS["vsc-fixed"][1]
    return [
        Row({"spikes": label, "alpha": alpha}, common | own | {"model.spikes": name, "model.alpha": alpha})
        for label, (name, own) in estimators().items()
        for alpha in ask.alphas or ALPHAS
    ]


def gap(group: Group) -> float:
    """Return how many nats the relaxed ELBO of training lies above the hard one; 0 where training draws hard spikes."""
    return group.mean("relaxed_elbo") - group.mean("elbo") if group.values("relaxed_elbo") else 0.0


def _dim(group: Group) -> int:
    return group.config.model.latent_dim


def _collapsed(group: Group) -> bool:
    """Say whether hardly any latent is used, or the same few are on for every input."""
    return "has collapsed" in collapse(group.mean("used"), group.mean("always_on"), _dim(group))


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw every estimator's hard and relaxed ELBO and its latents, and say which of them collapse."""
    words = [_gap_words(groups), *_collapse_words(groups), *_range_words(groups)]
    columns = ("elbo", "relaxed_elbo", "log_px", "kl_slab", "kl_spike", "l0", "active", "used", "always_on", "minutes")
    table = tabulate(groups, columns)
    cells = [(gap(g), "yes" if _collapsed(g) else "no") for g in groups]
    table = table.beside(("relaxed less hard elbo", "collapsed"), cells)
    alt = "A row for each spike estimator: hard and relaxed ELBO, used and always-on latents."
    return Finding(_dots(groups), alt, table, words)


def _listed(groups: list[Group]) -> str:
    """Name settings, those of one estimator together: `sigmoid, c = 1 (alpha 0.5, 0.1)`."""
    return "; ".join(
        f"{label} (alpha {', '.join(format(g['alpha'], 'g') for g in own)})"
        for label, own in parted(groups, "spikes").items()
    )


def _gap_words(groups: list[Group]) -> str:
    relaxed = [g for g in groups if g.values("relaxed_elbo")]
    hiding = [g for g in relaxed if gap(g) > GAP]
    if not hiding:
        return f"No relaxed ELBO lies more than {GAP:g} nats above the hard one."
    worst = max(hiding, key=gap)
    return (
        f"The relaxed ELBO, which is no bound, lies more than {GAP:g} nats above the hard one in {len(hiding)} of "
        f"{len(relaxed)} relaxed settings, most in {_listed([worst])}: {worst.mean('relaxed_elbo'):.1f} against "
        f"{worst.mean('elbo'):.1f}. The others train on hard draws and have no such gap."
    )


def _collapse_words(groups: list[Group]) -> list[str]:
    """Say which settings collapse, and whether the report's collapse is among them."""
    gone = [g for g in groups if _collapsed(g)]
    kinds = {
        "relaxed draws (sigmoid, concrete)": [g for g in groups if g.config.model.spikes in RELAXED],
        "hard draws (the others)": [g for g in groups if g.config.model.spikes not in RELAXED],
    }
    counts = ", ".join(f"{sum(map(_collapsed, own))} of {len(own)} with {name}" for name, own in kinds.items())
    found = [
        "Collapsed (fewer than two latents used, or most of them always on and fewer than J / 2 in use), with hard "
        f"spikes: {counts}." + (f" They are: {_listed(gone)}." if gone else "")
    ]
    sigmoid = [(g.config.train.relaxation, _collapsed(g)) for g in groups if g.config.model.spikes == "sigmoid"]
    one, other = [lost for c, lost in sigmoid if c == 1], [lost for c, lost in sigmoid if c != 1]
    verdict = "does not reproduce"
    if any(other):
        verdict = "reproduces" if not any(one) else "reproduces, but not its exception: c = 1 collapses too"
    found.append(
        f"With the ICLR paper's sigmoid, {sum(one)} of {len(one)} settings at c = 1 collapse and {sum(other)} of "
        f"{len(other)} at other c: the collapse that the report met {verdict}."
    )
    return found


def _range_words(groups: list[Group]) -> list[str]:
    """Say how much the hard ELBO depends on each estimator's sharpness, and which estimator is best."""
    found = []
    for alpha, own in parted(groups, "alpha").items():
        best = max(own, key=lambda g: g.mean("elbo"))
        spans = []
        for name in ("sigmoid", "concrete", "straight-through"):
            values = [g.mean("elbo") for g in own if g.config.model.spikes == name]
            spans.append(f"{name} {max(values) - min(values):.1f}")
        found.append(
            f"Alpha {alpha:g}: best hard ELBO {best.mean('elbo'):.1f} ({best['spikes']}); over an estimator's "
            f"sharpness it varies by, in nats: {', '.join(spans)}."
        )
    return found


@STYLE
def _dots(groups: list[Group]) -> Figure:
    """Draw a row for each estimator and a colour for each alpha: ELBO on the left, latents on the right."""
    labels = list(parted(groups, "spikes"))
    by_alpha = parted(groups, "alpha")
    tall, J = 0.36 * len(labels), _dim(groups[0])
    figure = Figure(figsize=(WIDTH, tall + 1.2))
    elbo, latents = axes_at(figure, 1.95, 0.55, 5.0, tall), axes_at(figure, 7.2, 0.55, WIDTH - 7.4, tall)
    handles = []
    for k, (alpha, own) in enumerate(by_alpha.items()):
        look: dict[str, Any] = {"color": PALETTE[k % 7], "marker": MARKERS[k % 7], "markersize": 5}
        for group in own:
            y = labels.index(group["spikes"]) + 0.7 * ((k + 0.5) / len(by_alpha) - 0.5)
            relaxed = group.mean("relaxed_elbo") if group.values("relaxed_elbo") else group.mean("elbo")
            pairs = ((elbo, group.mean("elbo"), relaxed), (latents, group.mean("used"), group.mean("always_on")))
            for axes, solid, hollow in pairs:
                if hollow != (solid if axes is elbo else 0):  # nothing to tell apart: one dot
                    axes.plot([solid, hollow], [y, y], color=look["color"], linewidth=1.0)
                    axes.plot([hollow], [y], markerfacecolor="white", **look)
                axes.plot([solid], [y], **look)
        handles.append(Line2D([], [], label=f"alpha {alpha:g}", linestyle="none", **look))
    elbo.set(title="filled: hard ELBO; hollow: with the relaxed spikes of training", xlabel="ELBO (nats per example)")
    elbo.set(ylabel="spike estimator, its sharpness held", yticks=range(len(labels)), yticklabels=labels)
    latents.set(title="filled: used; hollow: always on, where any is", xlabel=f"latents of J = {J}", yticks=[])
    latents.set_xlim(-0.04 * J, 1.04 * J)
    for axes in (elbo, latents):
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        for r in range(1, len(labels)):
            parts = labels[r].partition(",")[0] != labels[r - 1].partition(",")[0]
            axes.axhline(r - 0.5, color="#999999" if parts else "#e6e6e6", linewidth=0.7, zorder=0)
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.85 / WIDTH, 1), ncols=len(handles))
    return figure


STUDY = Study(
    title="Spike estimators and their sharpness",
    source="course report 7.2.3",
    claim="The model remains unstable when the spike parameter is adjusted: it collapses for values other than 1.",
    minutes=10,
    rows=rows,
    draw=draw,
)
