"""Configuration of the site, for Sphinx: `scripts/docs` builds it."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # where scripts are a package

import splitlearn  # noqa: E402
from scripts.documentation import sphinx_extension  # noqa: E402

project = "splitlearn"
author = copyright = "The splitlearn developers"
release = version = splitlearn.__version__
html_title = f"splitlearn {version}"

extensions = ["myst_nb", sphinx_extension.__name__]
exclude_patterns = ["results/**/*.json"]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
myst_enable_extensions = ["fieldlist"]
myst_heading_anchors = 4
suppress_warnings = [
    "misc.highlighting_failure",  # what commands print in tutorials is no code
    "myst.header",  # pages of results are written by scripts, whose headings may skip a level
    "myst-nb.lexer",  # without a run (scripts/docs --draft), the language of tutorials is not known
    "ref.python",  # a name in a signature, such as Limits, may be that of several packages
]

nb_execution_mode = "force"
nb_execution_timeout = 1800  # seconds a cell; a tutorial takes less than 60 on two idle cores, but few are idle
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
python_maximum_signature_line_length = 88
add_module_names = False
pygments_style = "friendly"
