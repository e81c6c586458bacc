"""Write pages, each one HTML file: one that compares models, and one on everything that a single run has learned."""

from vsc.report.material import Material
from vsc.report.page import Entry, Page, write
from vsc.report.run import RunPage, write_run

__all__ = ["Entry", "Material", "Page", "RunPage", "write", "write_run"]
