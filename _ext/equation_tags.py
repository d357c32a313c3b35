r"""Let a displayed equation of several lines carry a tag.

Sphinx puts every equation that contains a line break into a ``split``
environment, in which MathJax allows no ``\tag``.
"""

from docutils import nodes


def keep_whole(app, doctree):
    """Hand tagged equations to MathJax as they were written."""
    for equation in doctree.findall(nodes.math_block):
        text = equation.astext()
        if r"\tag" in text and not equation["nowrap"]:
            equation["nowrap"] = True
            equation.children = [nodes.Text(rf"\[{text}\]")]


def setup(app):
    """Register the step."""
    app.connect("doctree-read", keep_whole)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
