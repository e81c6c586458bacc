"""Turn the figures of ``vsc.plots`` into pictures inside the page, each with a text that stands in for it."""

import warnings
from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from vsc import plots
from vsc.evaluation import Showcase
from vsc.report.words import listing, number

DPI = 144  # 1.5 pixels per CSS pixel: sharp on most screens and on paper, half the time of 2


class Picture(NamedTuple):
    """
    A picture with its words.

    Attributes
    ----------
    source : str
        The PNG as a data address.
    width, height : int
        Size on the page, CSS pixels.
    alt : str
        What is to be seen, for those who do not see it.
    caption : str
        How to read it.
    """

    source: str
    width: int
    height: int
    alt: str
    caption: str


def training(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Picture:
    """
    Picture of the training curves.

    Parameters
    ----------
    histories : mapping from label to rows
        As for ``plots.training_curves``.

    Returns
    -------
    Picture
        Its alternative text gives each model's last validation values.
    """
    ends = []
    for label, rows in histories.items():
        last: dict[str, Any] = {}
        for row in rows:
            if row.get("split") == "valid":
                last |= {key: value for key, value in row.items() if value is not None}
        values = [f"ELBO {number(last['elbo'], '.1f')} nats" if "elbo" in last else "no ELBO"]
        values += [f"{number(last['l0'], '.1f')} active latents per example"] if "l0" in last else []
        values += [f"{last['used']} used latents"] if "used" in last else []
        ends.append(
            f"{label} ends at step {last['step']} with {listing(values)}" if last else f"{label}: no validation"
        )
    return _picture(
        plots.training_curves(histories),
        "Line charts against the training step. On validation, " + "; ".join(ends) + ".",
        "Higher is better for the ELBO. The other two panels describe the code. Where curves lie on each "
        "other, the later ones are thinner.",
    )


def model(showcase: Showcase, label: str, shape: Sequence[int], classes: Sequence[str]) -> list[Picture]:
    """
    Pictures of one model: codes, class means, spike probabilities, and the plane of two latents.

    Parameters
    ----------
    showcase : Showcase
        The model's arrays.
    label : str
        The model's name.
    shape : sequence of int
        (C, H, W) or (M,).
    classes : sequence of str
        Class names.

    Returns
    -------
    list of Picture
        Two to four.
    """
    pictures = [
        _codes(showcase, label, shape, classes),
        _heatmap(showcase.class_code, label, classes, "mean code"),
    ]
    if showcase.class_gamma is not None:
        pictures.append(_heatmap(showcase.class_gamma, label, classes, "spike probability"))
    if showcase.grid is not None:
        spread = float(np.std(np.nan_to_num(showcase.grid), axis=0).mean())
        pictures.append(
            _picture(
                plots.latent_grid(showcase.grid, shape),
                f"What {label} decodes at 10 by 10 places of its two latents, each from -2 to 2. "
                f"From place to place an output varies by {number(spread, '.2g')} (mean standard deviation).",
                "The decoder’s output for latents set by hand, from −2 to 2.",
            )
        )
    return pictures


def denoising(showcases: Sequence[Showcase], labels: Sequence[str], shape: Sequence[int]) -> Picture:
    """
    Picture of clean, noisy and reconstructed examples.

    Parameters
    ----------
    showcases : sequence of Showcase
        One per model.
    labels : sequence of str
        The models' names.
    shape : sequence of int
        (C, H, W) or (M,).

    Returns
    -------
    Picture
        Its alternative text gives the squared errors of the examples.
    """
    first = showcases[0]
    same = all(np.array_equal(first.noisy, one.noisy) for one in showcases)
    errors = [f"noisy input {_error(first.noisy, first.x)}"]
    errors += [f"{label} {_error(s.denoised, s.x)}" for s, label in zip(showcases, labels, strict=True)]
    return _picture(
        plots.denoising(showcases, labels, shape),
        "Held-out examples in columns; in rows the clean input, the noisy input and each model’s "
        "reconstruction of the noisy one. Mean squared error against the clean input over the "
        f"{len(first.x)} examples kept for pictures: " + ", ".join(errors) + ".",
        "No model was trained to remove noise; a code that has no room for it leaves it out."
        + ("" if same else " Every model had noise of its own; the noisy row shows the first one’s.")
        + ("" if len(shape) == 3 else " The clean input is in grey behind each row."),
    )


def _codes(showcase: Showcase, label: str, shape: Sequence[int], classes: Sequence[str]) -> Picture:
    shown = showcase.code[:6]
    active = [str(np.count_nonzero(code)) for code in shown]
    return _picture(
        plots.code_panels(showcase, shape, classes),
        f"{len(shown)} held-out examples, each with its input, its code in {label} as bars, and its "
        f"reconstruction. Of {shown.shape[1]} latents, {listing(active)} are active. Mean squared error of "
        f"these reconstructions: {_error(showcase.reconstruction[:6], showcase.x[:6])}.",
        "Each row is one held-out input, what the model writes down about it, and what it rebuilds from that."
        + (" A grey dot is a latent that is off: exactly zero." if showcase.class_gamma is not None else ""),
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
            "How probable it is that a latent is on. A column that is dark for some classes and white for "
            "others has learned something that only those classes have."
            if C > 1
            else "How probable it is that a latent is on, over all the data."
        )
    return _picture(plots.class_heatmap(matrix, classes, quantity), alt, caption)


def _error(a: np.ndarray, b: np.ndarray) -> str:
    return number(float(np.mean((a - b) ** 2)), "#.3g")


def _picture(figure: Figure, alt: str, caption: str) -> Picture:
    buffer = BytesIO()
    with warnings.catch_warnings():
        # Names come from users; one that the font cannot print must not end a long run at its last step.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="png", dpi=DPI)
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return Picture(f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}", width, height, alt, caption)
