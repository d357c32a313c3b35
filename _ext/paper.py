"""Print what a page on a screen keeps folded.

LaTeX leaves out raw HTML, and with it the words on a solution's fold.
"""

import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

_SUMMARY = re.compile(r"<summary>(.*?)</summary>", re.DOTALL)


class Unfold(SphinxPostTransform):
    """Set the words on each fold in bold above what it holds."""

    default_priority = 400
    formats = ("latex",)

    def run(self):
        """Replace each fold's HTML by its words."""
        for raw in list(self.document.findall(nodes.raw)):
            if fold := _SUMMARY.search(raw.astext()):
                words = nodes.strong(text=fold[1].strip())
                raw.replace_self(nodes.paragraph("", "", words))


def setup(app):
    """Register the step."""
    app.add_post_transform(Unfold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
