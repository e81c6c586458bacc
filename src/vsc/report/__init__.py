"""Write pages, each one HTML file: one that compares models, and one on everything that a single run has learned."""

from vsc.report.entry import Entry
from vsc.report.page import Page, write

__all__ = ["Entry", "Page", "write"]
