"""How Sphinx builds the documentation: `make docs`."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

warnings.filterwarnings("ignore", message=".*torch.jit.script.*")  # would stand on a page

project = "dynloss"
author = "the authors of dynloss"
version = release = version_of("dynloss")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
    "docs.generators",
]
exclude_patterns = ["_build", "from_python.ipynb", "gallery"]

html_theme = "furo"
html_title = "dynloss"
html_copy_source = False
html_show_copyright = False
templates_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"exclude-members": "extra_repr"}
napoleon_numpy_docstring = False
default_role = "code"
highlight_language = "text"
smartquotes = False  # they make a dash of `--`

# Types of PyTorch, NumPy and pandas are named in signatures, and their pages are not here.
nitpick_ignore_regex = [("py:.*", ".*")]

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",  # made by the build
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 60,
    "copyfile_regex": "",
}
