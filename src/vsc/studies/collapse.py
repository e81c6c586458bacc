"""Which latents are used during training, with and without warm-up (report 5.2, UAI section 3.4)."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vsc.errors import RunError, UsageError
from vsc.plots.drawing import MARKERS, PALETTE, STYLE, WIDTH, axes_at, plain_text
from vsc.settings.presets import PRESETS
from vsc.studies.base import Ask, Finding, Group, Row, Study, parted, steps, tabulate
from vsc.studies.models import PSEUDO, WARMED
from vsc.training.diagnosis import collapse

ALPHA, J = 0.05, 60
COUNTS = ("used", "always_on", "dead")


def models(full: bool) -> dict[str, dict[str, Any]]:
    """Return the settings that each model has of its own, with the quick or the source's warm-up of lambda."""
    lam = {"train.lam": WARMED if full else "0 -> 1 at 0.2 over 0.1"}
    pseudo = PSEUDO | ({"model.components": 20} if full else {})
    fixed = PRESETS["vsc-fixed"][1]
    return {
        "VSC, no warm-up": fixed | {"train.beta": 1.0},
        "VSC, KL warm-up": fixed,
        "VSC, lambda warm-up": fixed | {"train.beta": 1.0} | lam,
        "VSC-WU: both, T = 1": PRESETS["vsc-wu"][1] | lam,
        "VSC, pseudo-inputs": pseudo,
    }


def rows(ask: Ask) -> list[Row]:
    """Return every model, for each alpha."""
    common = {"train.steps": steps(ask, 6000, 70_000), "model.latent_dim": (ask.dims or (J,))[0]}
    if ask.full:  # UAI: batches of 500, the learning rate cut to a tenth once lambda is 1
        common |= {"train.batch_size": 500, "train.lr": f"1e-3 -> 1e-4 at {20 / 70}"}
    return [
        Row(
            {"model": title, "alpha": alpha},
            common | ({"model.alpha": alpha} if own["model.gates"] == "fixed" else {}) | own,
        )
        for alpha in ask.alphas or (ALPHA,)
        for title, own in models(ask.full).items()
    ]


def course(group: Group, seed: int = 0) -> tuple[NDArray, NDArray, NDArray]:
    """
    Return what one seed's validations say of each latent: steps (K,), rates (K, J) and kl (K, J).

    A rate is the share of the validation examples with gamma > 1/2; KL is in nats per example.
    """
    valid = [row for row in group.history(seed) if row["split"] == "valid"]
    if not valid:
        raise UsageError("the study follows the validation part; give it one with --data.valid_fraction")
    if "rates" not in valid[0] or "kl_latent" not in valid[0]:
        raise RunError(f"{group.jobs[seed].folder} does not record every latent; remove the folder to train it anew")
    columns = ([row[name] for row in valid] for name in ("step", "rates", "kl_latent"))
    found, rates, kl = (np.array(column, dtype=float) for column in columns)
    return found, rates, kl


def abandoned(group: Group) -> float:
    """Return how many latents were used at some validation and are not at the last, over the seeds on average."""
    lost = [course(group, i)[1] > 0.01 for i in range(len(group.jobs))]
    return float(np.mean([(used.any(0) & ~used[-1]).sum() for used in lost]))


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw each latent's activation rate and KL during training, and say which models lose latents."""
    table = tabulate(groups, ("elbo", "kl_slab", "kl_spike", "l0", "active", *COUNTS, "minutes"))
    extra = [(_per_used(g), abandoned(g)) for g in groups]
    table = table.beside(("nats per used latent", "used earlier, not at the end"), extra)
    words = [sentence for own in parted(groups, "alpha").values() for sentence in _words(own)]
    alt = "Activation rate and KL of every latent during training, one column for each model."
    return Finding(_picture(groups), alt, table, words)


def _per_used(group: Group) -> float:
    return (group.mean("kl_slab") + group.mean("kl_spike")) / max(group.mean("used"), 1)


def _words(own: list[Group]) -> list[str]:
    """Compare the models at the end of training with the one without any warm-up."""
    dim, plain = own[0].config.model.latent_dim, own[0]
    found = []
    for g in own:
        problem = collapse(g.mean("used"), g.mean("always_on"), dim).partition(":")[0]
        found.append(
            f"{g['model']} at alpha {g['alpha']:g}: {g.mean('used'):.3g} of {dim} latents used, "
            f"{g.mean('always_on'):.3g} always on, {g.mean('dead'):.3g} dead, {_per_used(g):.2f} nats per used latent, "
            f"ELBO {g.mean('elbo'):.1f}; {abandoned(g):.3g} latents were used at an earlier validation and are not at "
            + (f"the end. It {problem}." if problem else "the end.")
        )
    for g in own[1:]:
        more, elbo = g.mean("used") - plain.mean("used"), g.mean("elbo") - plain.mean("elbo")
        if "warm-up" in g["model"] or "WU" in g["model"]:
            verdict = "keeps more latents in use" if more >= 1 else "does not keep more latents in use"
            found.append(f"{g['model']} {verdict} than no warm-up: {more:+.3g} used, {elbo:+.1f} nats of ELBO.")
    return found


@STYLE
def _picture(groups: list[Group]) -> Figure:
    """Draw a column for each model and three rows for each alpha: rates, KL and counts."""
    alphas = list(parted(groups, "alpha"))
    per_block = len(groups) // len(alphas)
    inner, gap_across = (0.75, 0.16)
    width = (WIDTH - inner - 0.85 - gap_across * per_block) / per_block
    heights, between, foot, head = (1.5, 1.5, 1.3), 0.22, 0.55, 0.6
    block = sum(heights) + 2 * between + foot + head
    figure = Figure(figsize=(WIDTH, block * len(alphas)))
    courses = [course(group) for group in groups]
    top = float(np.quantile(np.concatenate([kl.ravel() for _, _, kl in courses]), 0.99)) or 1.0  # a start can be high
    for b, alpha in enumerate(alphas):
        for m, (group, (at, rates, kl)) in enumerate(
            (group, one) for group, one in zip(groups, courses, strict=True) if group["alpha"] == alpha
        ):
            left = inner + m * (width + gap_across)
            base = (len(alphas) - 1 - b) * block + foot
            order = np.argsort(-rates[-1], kind="stable")
            low = axes_at(figure, left, base, width, heights[2])
            middle = axes_at(figure, left, base + heights[2] + between, width, heights[1])
            high = axes_at(figure, left, base + heights[2] + heights[1] + 2 * between, width, heights[0])
            image = _map(high, at, rates[:, order], 1.0, "cividis")
            image_kl = _map(middle, at, kl[:, order], top, "magma")
            _counts(low, group)
            high.set_title(plain_text(group["model"], 26) + (f"\nalpha {alpha:g}" if len(alphas) > 1 else ""))
            low.set_xlabel("step")
            for axes, name in ((high, "latent, by final rate"), (middle, "latent, same order"), (low, "latents")):
                axes.set_ylabel(name if m == 0 else "")
                axes.tick_params(labelleft=m == 0, labelbottom=axes is low)
                axes.set_xlim(0, at[-1])
                axes.xaxis.set_major_locator(MaxNLocator(3, prune="upper", integer=True))
            if m == per_block - 1:
                for axes, shown, name in (
                    (high, image, "share of examples on"),
                    (middle, image_kl, "KL (nats per example)"),
                ):
                    box = axes.get_position()
                    bar = figure.add_axes((box.x1 + 0.08 / WIDTH, box.y0, 0.1 / WIDTH, box.height))
                    figure.colorbar(shown, cax=bar, extend="max" if shown is image_kl else "neither")
                    bar.set_ylabel(name, fontsize=8)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="upper left", bbox_to_anchor=(inner / WIDTH - 0.01, 1), ncols=len(names))
    return figure


def _map(axes: Axes, at: NDArray, values: NDArray, top: float, colours: str) -> Any:
    """Draw values (K, J) of K validations, each over the steps that led to it; the first latent is on top."""
    edges, J = np.concatenate([[0.0], at]), values.shape[1]
    norm = PowerNorm(0.5, 0, top)  # most latents are on for a few percent of the examples
    shown = axes.pcolormesh(edges, np.arange(J + 1), values.T, norm=norm, cmap=colours, rasterized=True)
    axes.set_ylim(J, 0)
    return shown


def _counts(axes: Axes, group: Group) -> None:
    """Draw used, always-on and dead latents of the validation part, means over the seeds."""
    valid = [[row for row in group.history(i) if row["split"] == "valid"] for i in range(len(group.jobs))]
    valid = [own[: min(map(len, valid))] for own in valid]  # early stopping may have cut some
    for k, name in enumerate(COUNTS):
        y = np.mean([[row[name] for row in own] for own in valid], axis=0)
        x = [row["step"] for row in valid[0]]
        axes.plot(x, y, color=PALETTE[k], marker=MARKERS[k], markersize=3.5, lw=1.3, label=name.replace("_", "-"))
    axes.set_ylim(-0.03 * group.config.model.latent_dim, 1.04 * group.config.model.latent_dim)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)


STUDY = Study(
    title="Latents during training, with and without warm-up",
    source="course report 5.2 and 4.3.2, UAI section 3.4",
    claim="The warm-up of lambda prevents posterior collapse: latents stay active instead of freezing prematurely.",
    minutes=4,
    rows=rows,
    draw=draw,
)
