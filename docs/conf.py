"""Settings of the site: `make site` builds it into docs/_build. No page needs the network to be read."""

import re

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.ext import autosummary

import vsc

project = "variational-sparse-coding"
copyright = "the authors of variational-sparse-coding"
version = release = vsc.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = True
highlight_language = "bash"  # of blocks that do not say: commands
default_role = "code"  # docstrings have names and formulas in single backticks

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autosummary.WELL_KNOWN_ABBREVIATIONS += ("eq.", "sec.", "supp.")  # no sentence ends with them
autodoc_typehints = "none"  # types, shapes and units are in the docstrings
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "vsc"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("start", "results", "studies", "changelog")}  # nothing lies below these
html_math_renderer = "mathml"
html_theme_options = {"header_links_before_dropdown": 6, "footer_start": ["copyright"], "footer_end": []}


def mathml(block: bool):
    """Return what writes a formula as MathML, which browsers draw by themselves."""

    def visit(writer, node: nodes.Element) -> None:
        writer.body.append(latex2mathml.tex2mathml(node.astext(), as_block=block))
        raise nodes.SkipNode

    return visit, None


def skip_field_of_tuple(app, what, name, obj, skip, options) -> bool | None:
    """Leave out a NamedTuple's fields, which its section "Attributes" explains."""
    return True if str(obj.__doc__).startswith("Alias for field") else None


def plain_text(app, what, name, obj, options, lines: list[str]) -> None:
    """Keep bars and stars of docstrings, as in |x|, which are no markup there."""
    lines[:] = [re.sub(r"(`[^`]*`)|([|*])", lambda m: m[1] or f"\\{m[2]}", line) for line in lines]


def setup(app) -> None:
    app.add_html_math_renderer("mathml", mathml(False), mathml(True))
    app.connect("autodoc-process-docstring", plain_text, priority=400)  # before numpydoc
    app.connect("autodoc-skip-member", skip_field_of_tuple)
