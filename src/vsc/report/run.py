"""Say what the page of one run holds, and write it as one self-contained HTML file."""

import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vsc.measure.effects import Parts
from vsc.measure.scores import Scores
from vsc.report import cards, examples, figures, latents, page, scores, settings, sprites, summary, words
from vsc.report.material import Material


@dataclass(frozen=True)
class RunPage:
    """
    One trained run.

    Attributes
    ----------
    label, title : str
        The model's name, and the heading of the page.
    folder : str
        Name of the run folder.
    data, split : str
        Names of the data set and of the part that is shown.
    likelihood : str
        Name of p(x|z), with its settings.
    scores : Scores
        On this part, with hard spikes.
    spikes : bool
        Whether the model has gates.
    latent_dim : int
        J.
    material : Material
        The arrays behind the cards.
    shown : sequence of (int, Parts)
        The examples that are shown, and what each latent does for them.
    settings : mapping
        The nested configuration of the run.
    history : sequence of mapping
        Rows with "step", "split" and, where the model has them, "elbo", "l0" and "used".
    seconds : float or None
        Training time, seconds, if it is known.
    parameters : int
        Number of trained parameters.
    environment : mapping of str to str
        Versions, device and threads of the training.
    commands : sequence of str
        What to type to train this run again and to write this page again.
    version : str
        Version of this library that wrote the page.
    """

    label: str
    title: str
    folder: str
    data: str
    split: str
    likelihood: str
    scores: Scores
    spikes: bool
    latent_dim: int
    material: Material
    shown: Sequence[tuple[int, Parts]]
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    seconds: float | None
    parameters: int
    environment: Mapping[str, str]
    commands: Sequence[str]
    version: str


def write_run(run: RunPage, path: str | os.PathLike[str]) -> Path:
    """
    Render the page of one run and write it as one HTML file that loads nothing from anywhere.

    Parameters
    ----------
    run : RunPage
        What to show.
    path : path-like
        Where to write it, whole or not at all; missing folders are made.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    return page.put(render_run(run), Path(path))


def render_run(run: RunPage) -> str:
    """Return the HTML of one run's page, a complete document."""
    m = run.material
    facts = summary.Facts(
        labels=[run.label],
        scores=[run.scores],
        spreads=[None],
        runs=[1],
        spikes=[run.spikes],
        latent_dim=run.latent_dim,
        data=run.data,
        test_examples=len(m.x),
        seeds=[str(settings.flatten(run.settings).get("train.seed", "?"))],
    )
    script = (files("vsc.report") / "run.js").read_text(encoding="utf-8")
    columns = scores.columns([run.scores])
    named = latents.groups(m)
    return page.ENVIRONMENT.get_template("run.html.j2").render(
        run=run,
        m=m,
        K=len(m.found.shown),
        sentences=summary.sentences(facts),
        cautions=summary.cautions(facts),
        numbers=[(c, cell) for c, cell in zip(columns, scores.table([run.scores])[0], strict=True) if cell.text != "–"],
        headings=latents.headings(m),
        rows=latents.rows(m),
        groups=named,
        choices=sorted({(name, named.count(name)) for name in named if name}),
        cards=[cards.card(m, k) for k in range(len(m.found.shown))],
        legend=sprites.legend() if m.kind == "images" else None,
        peak=words.number(m.peak, ".2g"),
        examples=[examples.example(m, i, parts) for i, parts in run.shown],
        curves=figures.training({run.label: run.history}) if run.history else None,
        settings=settings.compare([run.settings])[1],
        script=Markup(script),
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
    )
