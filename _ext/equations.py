r"""Hand displayed equations to TeX as they were written.

Sphinx puts an equation into a ``split`` environment, which takes no ``\tag``
and, in LaTeX, no second column.
"""

from docutils import nodes


def keep_whole(app, doctree):
    """Wrap each equation in nothing but what it needs."""
    for equation in doctree.findall(nodes.math_block):
        text = equation.astext().strip()
        if equation["nowrap"] or equation["number"] or "\n\n" in text:
            continue
        if r"\tag" not in text and r"\\" in text:
            text = rf"\begin{{aligned}}{text}\end{{aligned}}"
        equation["nowrap"] = True
        equation.children = [nodes.Text(rf"\[{text}\]")]


def setup(app):
    """Register the step."""
    app.connect("doctree-read", keep_whole)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
