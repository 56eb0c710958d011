"""The site: `make docs` builds it, without network, in build/docs.

Pages are Markdown that a forge shows as well. Their order is that of docs/README.md, which is not
itself a page here; `generate.py` makes the reference of commands and Python names from the code.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import generate
from docutils import nodes

from vladkit.core.version import __version__

project = "vladkit"
author = "the vladkit authors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns = ["README.md", "results/*.json"]
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r".*")]  # types such as "array"; what is no name stays code
suppress_warnings = ["config.cache"]
default_role = "py:obj"  # `VLAD` in a docstring is a link, any other `code` is code
highlight_language = "none"
smartquotes = False  # --top is two hyphens
pygments_dark_style = "github-dark"

myst_heading_anchors = 4
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autoclass_content = "class"
napoleon_google_docstring = False
napoleon_use_ivar = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"vladkit {release}"
html_static_path = ["static"]
html_css_files = ["vladkit.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f6f5c", "color-brand-content": "#1f6f5c"},
    "dark_css_variables": {"color-brand-primary": "#6fcfb5", "color-brand-content": "#6fcfb5"},
}


def _add_toctrees(app: Any, name: str, source: list[str]) -> None:
    """The sidebar, from the table of contents."""
    if name == root_doc:
        source[0] += generate.toctrees((generate.DOCS / "README.md").read_text("utf-8"))


def _link_pages(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Names of pages in a docstring become links."""
    lines[:] = [generate.linked(line) for line in lines]


def _dashes(app: Any, tree: Any, name: str) -> None:
    """Sphinx leaves the dash behind a parameter's name to smart quotes, which are off."""
    for text in list(tree.findall(lambda node: isinstance(node, nodes.Text) and node == " -- ")):
        text.parent.replace(text, nodes.Text(": "))


def setup(app: Any) -> None:
    """Called by Sphinx."""
    generate.write()
    app.connect("source-read", _add_toctrees)
    app.connect("autodoc-process-docstring", _link_pages)
    app.connect("doctree-resolved", _dashes)
