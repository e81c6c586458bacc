"""
Make the pictures of the README and of the site.

python docs/figures.py codes [RUN]     docs/codes.png, from the run that `make demo` leaves
python docs/figures.py front [TABLES]  docs/front.png, from what `python benchmarks/tables.py mnist` leaves
python docs/figures.py report [PAGE]   docs/report.png, from the page that `make demo` leaves; needs a Chromium
"""

import json
import shutil
import statistics
import sys
from pathlib import Path

import vsc
from vsc import plots
from vsc.measure.measured import Measured
from vsc.measure.showcase import showcase

HERE = Path(__file__).parent


def codes(run: str = "runs/demo/digits/vsc") -> None:
    data = vsc.load_data("digits")
    figure = plots.code_panels(showcase(Measured(vsc.load(run), data)), data.shape, data.classes, examples=5)
    figure.savefig(HERE / "codes.png", dpi=110)


def front(tables: str = "runs/tables") -> None:
    rows: dict[str, list[dict[str, float]]] = json.loads(Path(tables, "mnist.json").read_text())["rows"]

    def mean(row: str, key: str) -> float:
        return statistics.fmean(scores[key] for scores in rows[row])

    def family(word: str) -> list[tuple[float, float]]:
        return [(mean(row, "l0"), mean(row, "elbo")) for row in rows if row.startswith(word)]

    points = {
        "VSC, a target for l0": family("VSC, target"),
        "VSC, default": [(mean("VSC", "l0"), mean("VSC", "elbo"))],
        "VSC, no cap": family("VSC, no cap"),
        "VSC, UAI recipe": family("VSC, UAI"),
        "VSC, fixed prior, alpha 0.01": family("VSC, fixed"),
    }
    plots.front(points, {"VAE": mean("VAE", "elbo")}).savefig(HERE / "front.png", dpi=110)


def report(page: str = "runs/demo/digits/vsc/report.html") -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as drivers:
        browser = drivers.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1100, "height": 1200}, reduced_motion="reduce")
        shown.goto(Path(page).resolve().as_uri() + "#live")
        shown.screenshot(path=HERE / "report.png")


if __name__ == "__main__":
    {"codes": codes, "front": front, "report": report}[sys.argv[1]](*sys.argv[2:])
