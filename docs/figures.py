"""Make the README's picture from the run that `make demo` leaves: python docs/figures.py [RUN] [OUT]."""

import sys
from pathlib import Path

import vsc
from vsc.evaluation import showcase
from vsc.plots import code_panels


def main(run: str = "runs/compare-digits/vsc", out: str = "docs/codes.png") -> None:
    data = vsc.load_data("digits")
    figure = code_panels(showcase(vsc.load(run), data), data.shape, data.classes, examples=5)
    figure.savefig(Path(out), dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
