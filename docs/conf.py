"""Settings of Sphinx: `make docs`. Everything is built and read without a network."""
from pathlib import Path
from xml.etree import ElementTree

from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
project, author, copyright = "mbrl_ros", "the mbrl_ros project", "the mbrl_ros project, Apache-2.0"
release = version = ElementTree.parse(ROOT / "package.xml").findtext("version") or ""
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
html_theme, html_title = "furo", f"mbrl_ros {release}"
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
exclude_patterns = ["_build", "figures"]


def _inline(self, node):
    self.body.append(convert(node.astext()))


def _block(self, node):
    self.body.append(f"<div class='math'>{convert(node.astext(), display='block')}</div>")


def _done(_self, _node):
    return


def _visit(write):
    def visit(self, node):
        from docutils.nodes import SkipNode

        write(self, node)
        raise SkipNode

    return visit


def setup(app):
    """Equations as MathML, which browsers draw themselves."""
    app.add_html_math_renderer("mathml", (_visit(_inline), _done), (_visit(_block), _done))
    return {"parallel_read_safe": True}
