"""Settings of Sphinx for `make docs`: the pages of docs/ and decisions/, and the reference made from the code."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

project = "rooms engine"
copyright = "The rooms engine authors"
version = release = metadata.version("rooms-engine")
root_doc = "docs/site/index"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "reference"]
include_patterns = [
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "findings/README.md",
    "docs/*.md", "docs/site/*.md", "decisions/*.md",
]  # fmt: skip
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_typehints = "none"  # types are in the docstrings, in words
autodoc_member_order = "bysource"
copybutton_exclude = ".linenos, .gp"
html_theme = "pydata_sphinx_theme"
html_title = f"rooms engine {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
# Links to folders of the repository lead to the page that lists what is in them.
_FOLDERS = {"decisions/": "docs/site/decisions.md", "findings/": "findings/README.md", "docs/": "docs/site/index.md"}
_LINK = re.compile(r"\]\((?!\w+:|#)([^)\s]*/)\)")


def _link_pages_not_folders(app: Any, page: str, content: list[str]) -> None:
    """Replace links to folders in the source of a page."""
    here = (ROOT / page).parent

    def replace(match: re.Match[str]) -> str:
        folder = (here / match[1]).resolve()
        name = f"{folder.relative_to(ROOT).as_posix()}/"
        if name not in _FOLDERS:
            return match[0]
        up = Path(*[".."] * len(here.relative_to(ROOT).parts))
        return f"]({(up / _FOLDERS[name]).as_posix()})"

    content[0] = _LINK.sub(replace, content[0])


def _keep_trailing_underscores(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Escape the underscore of `n_components_`, which would make a link of it."""
    for number, line in enumerate(lines):
        field = re.match(r"\s*(?::[^:]*:|\.\. )", line)  # the name in `:ivar mean_:` is no link
        start = 0 if field is None else field.end()
        lines[number] = line[:start] + re.sub(r"(?<=\w)_(?=[\s,).:;\]]|$)", r"\_", line[start:])


def setup(app: Any) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("source-read", _link_pages_not_folders)
    app.connect("autodoc-process-docstring", _keep_trailing_underscores, priority=900)  # after napoleon
