"""The page on a choice of l0: the rule, what it says, the curves and the numbers."""

from dataclasses import asdict
from pathlib import Path

from vsc import plots
from vsc.files import whole
from vsc.plots.charts import Curve
from vsc.report.figures import picture
from vsc.report.settings import flatten
from vsc.report.study import Section
from vsc.report.study import write as write_page
from vsc.settings.config import as_plain
from vsc.sweep.path import COLUMNS, RULE, Chosen, rows
from vsc.training import runs


def write(chosen: Chosen) -> Path:
    """Write l0.png and l0.html into the choice's folder, and return where the page is."""
    points = chosen.points
    l0 = [float(f"{point.l0:.3g}") for point in points]
    stability = {
        "of what latents do (cosine)": [point.stability for point in points],
        "of their codes (correlation)": [point.returning.codes for point in points],
    }
    elbo = Curve(l0, [point.elbo for point in points], [point.spread for point in points])
    figure = plots.path(l0, elbo, stability, chosen.best.l0)
    with whole(chosen.folder / "l0.png") as temporary:
        figure.savefig(temporary, dpi=150)
    alt = f"ELBO and stability over seeds against l0; the dashed line is at the recommended {chosen.best.l0:.3g}."
    section = Section(
        name="l0",
        title="Choosing l0 without labels",
        source=f"{len(chosen.best.jobs)} seeds for each l0",
        claim=RULE,
        data=f"{chosen.data.name}, {len(chosen.data.valid)} validation examples",
        words=[chosen.reason],
        pictures=[(picture(figure, alt, "").source, alt)],
        columns=list(COLUMNS),
        rows=rows(chosen),
        settings={k: v for k, v in flatten(as_plain(asdict(chosen.common))).items() if k != "train.target_l0"},
        command=chosen.command,
        heading="The rule",
    )
    page = chosen.folder / "l0.html"
    write_page(f"Which l0 for {chosen.data.name}", [section], runs.environment(), page)
    return page
