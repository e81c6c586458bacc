"""The page of one study or of several: what the source says, what we find, the picture and the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsc.report import words
from vsc.report.page import ENVIRONMENT, put


@dataclass(frozen=True)
class Section:
    """One study on the page."""

    name: str  # on the command line
    title: str  # what it shows
    source: str  # where it comes from
    claim: str  # what the source says
    data: str  # the data and how many held-out examples were measured
    words: Sequence[str]  # what we find
    pictures: Sequence[tuple[str, str]]  # each figure as a data URI, and what it shows, for those who cannot see it
    columns: Sequence[str]  # the table; None where there is no number
    rows: Sequence[Sequence[Any]]
    settings: Mapping[str, Any]  # dotted settings that all its runs share
    command: str  # what to type to make it again
    heading: str = "The source"  # what the claim is


def write(title: str, sections: Sequence[Section], environment: Mapping[str, str], path: Path) -> None:
    """Write studies as one HTML file: `title`, `sections` in their order, the `environment` of the runs, the `path`."""
    shown = [(section, [[_cell(value) for value in row] for row in section.rows]) for section in sections]
    html = ENVIRONMENT.get_template("study.html.j2").render(title=title, sections=shown, environment=environment)
    put(html, path)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        digits = 3 if abs(value) < 2 else 2 if abs(value) < 1000 else 0
        return words.number(value, f".{digits}f").removesuffix(".00").removesuffix(".000")
    return str(value)
