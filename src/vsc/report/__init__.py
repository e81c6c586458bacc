"""Write the page that compares models: scores, training, codes and reconstructions in one HTML file."""

from vsc.report.page import Entry, Page, write

__all__ = ["Entry", "Page", "write"]
