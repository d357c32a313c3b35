"""Show the alternative text of an image that lies on another server.

The pages load nothing from elsewhere. In a chapter this concerns the Colab
badge, which becomes the plain link "Open in Colab".
"""

from docutils import nodes


def replace_remote(app, doctree):
    """Replace each remote image by its alternative text."""
    for image in list(doctree.findall(nodes.image)):
        if "://" in image["uri"]:
            image.replace_self(nodes.Text(image.get("alt", image["uri"])))


def setup(app):
    """Register the step."""
    app.connect("doctree-read", replace_remote)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
