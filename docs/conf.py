"""How the documentation site is built: ``make docs``. The built pages load nothing from outside.

The commands' pages are what ``--help`` prints, asked for at each build, so that they cannot age.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
from typing import TYPE_CHECKING

import typer
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from telltale.cli.main import app as telltale_app

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "telltale"
author = "The telltale authors"
project_copyright = author
release = importlib.metadata.version("telltale-llm")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
highlight_language = "text"
default_role = "py:obj"  # a name between single backticks in a docstring is a link where it can be
autodoc_member_order = "bysource"
# Slow to import, and nothing of them is shown.
autodoc_mock_imports = ["torch", "transformers", "safetensors"]
add_module_names = False
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"telltale {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "tango"
pygments_dark_style = "monokai"

HELP_WIDTH = 88  # columns, the same on every machine


def help_of(*arguments: str) -> str:
    """What the command prints for these arguments and ``--help``."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        typer.main.get_command(telltale_app).main(
            [*arguments, "--help"],
            prog_name="telltale",
            standalone_mode=False,
            terminal_width=HELP_WIDTH,
        )
    return printed.getvalue().strip()


class CommandHelp(SphinxDirective):
    """``{command-help}``: the help of the command itself and a section for each of its parts."""

    def run(self) -> list[nodes.Node]:
        """The text of ``telltale --help``, and of each command's."""
        self.env.note_reread()  # the page's own text does not change when the command does
        commands = typer.main.get_command(telltale_app).commands  # type: ignore[attr-defined]
        return [_literal(help_of()), *(self._section(name) for name in commands)]

    def _section(self, name: str) -> nodes.section:
        section = nodes.section(ids=[f"telltale-{name}"])
        section += nodes.title("", f"telltale {name}")
        section += _literal(help_of(name))
        self.state.document.note_explicit_target(section, section)
        return section


def _literal(text: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language="text")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("command-help", CommandHelp)
