"""
Turn the figures of ``vsc.plots`` into pictures inside the page, each with a text that stands in for it.

All take a model's `showcase` and its `label`; `shape`, (C, H, W) or (M,); and the names of `classes` and of a table's
columns, `features`, which may be empty.
"""

import warnings
from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from vsc import plots
from vsc.measure.effects import Effects
from vsc.measure.frontier import Frontier
from vsc.measure.showcase import Showcase
from vsc.report.words import listing, most_changed, most_changed_pixel, number

EFFECTS = 24
"""Latents whose effects are drawn, those that are on most often."""

DPI = 144  # 1.5 pixels per CSS pixel: sharp on most screens and on paper, half the time of 2


class Picture(NamedTuple):
    """A picture with its words."""

    source: str  # the PNG as a data address
    width: int  # size on the page, CSS pixels
    height: int
    alt: str  # what is to be seen, for those who do not see it
    caption: str  # how to read it


def training(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Picture:
    """Picture of the training curves, from rows of each label as for ``plots.training_curves``."""
    ends = []
    for label, rows in histories.items():
        last: dict[str, Any] = {}
        for row in rows:
            if row.get("split") == "valid":
                last |= {key: value for key, value in row.items() if value is not None}
        values = [f"ELBO {number(last['elbo'], '.1f')} nats" if "elbo" in last else "no ELBO"]
        values += [f"an l0 of {number(last['l0'], '.1f')}"] if "l0" in last else []
        values += [f"{last['used']} used latents"] if "used" in last else []
        ends.append(
            f"{label} ends at step {last['step']} with {listing(values)}" if last else f"{label}: no validation"
        )
    return picture(
        plots.training_curves(histories),
        "Line charts against the training step. On validation, " + "; ".join(ends) + ".",
        "Higher is better for the ELBO. The other two panels describe the code. Where curves lie on each "
        "other, the later ones are thinner.",
    )


def codes(
    showcase: Showcase, label: str, shape: Sequence[int], classes: Sequence[str], features: Sequence[str] = ()
) -> Picture:
    """Picture of some inputs, their codes in one model and their reconstructions."""
    shown = showcase.code[:6]
    active = [str(np.count_nonzero(code)) for code in shown]
    return picture(
        plots.code_panels(showcase, shape, classes, features=features),
        f"{len(shown)} held-out examples, each with its input, its code in {label} as bars, and its "
        f"reconstruction. Of {shown.shape[1]} latents, {listing(active)} are active. Mean squared error of "
        f"these reconstructions: {_error(showcase.reconstruction[:6], showcase.x[:6])}.",
        "Each row is one held-out input, what the model writes down about it, and what it rebuilds from that."
        + (
            " A bar is a latent’s mu, drawn where its gamma is above 1/2; a grey dot is a latent that is off: "
            "exactly zero."
            if showcase.class_gamma is not None
            else ""
        ),
    )


def effects(
    showcase: Showcase, label: str, shape: Sequence[int], features: Sequence[str] = (), scale: str = ""
) -> Picture | None:
    """
    Picture of what each latent of one model with spikes does to the output; None where no latent is in use.

    None too for models without spikes: their latents are never off. `scale` says how the data were scaled.
    """
    found, J = showcase.effects.first(EFFECTS), showcase.code.shape[1]
    K, M = found.change.shape
    if not K or showcase.class_gamma is None:
        return None
    image = len(shape) == 3 and shape[0] in (1, 3)
    caption = (
        "How the output changes when this latent is on instead of off, all else as it is: the mean over up to 64 "
        "inputs that have it on; red is more, blue less. A latent whose values have both signs is raised instead, "
        "from its 5 % to its 95 % quantile. The rate is the share of held-out inputs that it is on for; the latents "
        "that are on most often come first. Two latents with opposite changes can be the + and − halves of one factor."
    )
    if image:
        caption += " Colours are averaged over the channels." if shape[0] > 1 else ""
    elif scale == "standard":
        caption += " One model unit is one standard deviation of the column."
    elif scale == "none":
        caption += " Model units are those of the data."
    shown = f"{K} of {J} latents" if K < J else f"{J} latents"
    what = f"difference images, one for each of {shown}" if image else f"heat map of {shown} by {M} columns"
    labels = [(f"latent {found.latent[k]}", _percent(float(found.rate[k])), _how(found, k)) for k in range(K)]
    alt = f"What single latents of {label} do to the output: {what}. "
    alt += "; ".join(
        f"{labels[k][0]} ({', '.join(labels[k][1:])}) "
        + (most_changed_pixel(found.change[k], shape) if image else most_changed(found.change[k], features))
        for k in range(min(K, 5))
    )
    return picture(plots.effects(found.change, labels, shape, features), alt + ".", caption)


def _how(found: Effects, k: int) -> str:
    if found.turned_on[k]:
        return "on, not off"
    return f"from {number(float(found.low[k]), '.1f')} to {number(float(found.high[k]), '.1f')}"


def classes(showcase: Showcase, label: str, classes: Sequence[str]) -> list[Picture]:
    """Pictures of one model's mean codes and, where it has spikes, mean spike probabilities, by class."""
    pictures = [_heatmap(showcase.class_code, label, classes, "mean code")]
    if showcase.class_gamma is not None:
        pictures.append(_heatmap(showcase.class_gamma, label, classes, "spike probability"))
    return pictures


def grid(showcase: Showcase, label: str, shape: Sequence[int]) -> Picture | None:
    """Picture of the decoded plane of a model with two latents; None for any other number."""
    if showcase.grid is None:
        return None
    spread = float(np.std(np.nan_to_num(showcase.grid), axis=0).mean())
    return picture(
        plots.latent_grid(showcase.grid, shape),
        f"What {label} decodes at 10 by 10 places of its two latents, each from -2 to 2. "
        f"From place to place an output varies by {number(spread, '.2g')} (mean standard deviation).",
        "The decoder’s output for latents set by hand, from −2 to 2.",
    )


def denoising(
    showcases: Sequence[Showcase], labels: Sequence[str], shape: Sequence[int], features: Sequence[str] = ()
) -> Picture:
    """Picture of clean, noisy and reconstructed examples: `showcases` and `labels` of several models."""
    first = showcases[0]
    same = all(np.array_equal(first.noisy, one.noisy) for one in showcases)
    errors = [f"noisy input {_error(first.noisy, first.x)}"]
    errors += [f"{label} {_error(s.denoised, s.x)}" for s, label in zip(showcases, labels, strict=True)]
    return picture(
        plots.denoising(showcases, labels, shape, features),
        "Held-out examples in columns; in rows the clean input, the noisy input and each model’s "
        "reconstruction of the noisy one. Mean squared error against the clean input over the "
        f"{len(first.x)} examples kept for pictures: " + ", ".join(errors) + ".",
        "No model was trained to remove noise; a code that has no room for it leaves it out."
        + ("" if same else " Every model had noise of its own; the noisy row shows the first one’s.")
        + ("" if len(shape) == 3 else " The clean input is in grey behind each row."),
    )


def nonzeros(frontiers: Mapping[str, Frontier], whole: Sequence[str] = ()) -> Picture:
    """Picture of each label's frontier, error and probe over the number of non-zeros; of `whole` ones the end only."""
    panels: dict[str, dict[str, np.ndarray]] = {}
    for quantity, key in (("squared error per output", "mse"), ("probe: share of classes named right", "probe")):
        for label, one in frontiers.items():
            if (values := getattr(one, key)) is not None:
                points = np.stack([one.nonzeros, values], 1)
                panels.setdefault(quantity, {})[label] = points[-1:] if label in whole else points
    ends = []
    for label, one in frontiers.items():
        end = f"{label} {number(float(one.nonzeros[-1]), '.1f')} non-zeros, error {number(float(one.mse[-1]), '#.3g')}"
        ends.append(end + ("" if one.probe is None else f", probe {number(float(one.probe[-1]), '.3f')}"))
    return picture(
        plots.nonzeros(panels),
        "Line charts over the number of non-zero latents that are kept of each code. Uncut: " + "; ".join(ends) + ".",
        "Each code is cut to the latents that move the output most, and decoded"
        + (", and given to the linear classifier" if len(panels) > 1 else "")
        + ". A ring is the code as the model makes it. What is cut is zero in a sparse code; in a dense one it is set "
        "to the mean of its latent, and not counted. To the left is sparser; low is better on the error"
        + (", high on the probe." if len(panels) > 1 else "."),
    )


def _heatmap(matrix: np.ndarray, label: str, classes: Sequence[str], quantity: str) -> Picture:
    C, J = matrix.shape
    rows = f"{C} classes" if C > 1 else "one row for all the data"
    finite = np.where(np.isfinite(matrix), matrix, 0.0)
    row, column = divmod(int(np.argmax(np.abs(finite))), J)
    where = f"class {classes[row]}, latent {column}" if len(classes) == C and C > 1 else f"row {row}, latent {column}"
    alt = (
        f"Heat map of the {quantity} in {label}: {rows} by {J} latents. "
        f"The largest value in size is {number(float(matrix[row, column]))} at {where}."
    )
    if quantity == "mean code":
        caption = "Mean code by class: red is positive, blue negative, white zero on average."
        if C == 1:
            caption = "Mean code of all the data: red is positive, blue negative, white zero on average."
    else:
        never, always = int((finite.max(0) < 0.01).sum()), int((finite.min(0) > 0.99).sum())
        alt += f" {never} latents stay below 0.01 and {always} above 0.99 in every row."
        caption = (
            "How probable it is that a latent is on. A column that is dark for some classes and pale for "
            "others has learned something that only those classes have."
            if C > 1
            else "How probable it is that a latent is on, over all the data."
        ) + " A latent that is dead is not white: its probability stays near the prior’s alpha."
    return picture(plots.class_heatmap(matrix, classes, quantity), alt, caption)


def _percent(rate: float) -> str:
    return f"on for {number(100 * rate, '.0f')} %"


def _error(a: np.ndarray, b: np.ndarray) -> str:
    return number(float(np.mean((a - b) ** 2)), "#.3g")


def picture(figure: Figure, alt: str, caption: str) -> Picture:
    """Put a figure, with its `alt` text and `caption`, on a page."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        # Names come from users; one that the font cannot print must not end a long run at its last step.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="png", dpi=DPI)
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return Picture(f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}", width, height, alt, caption)
