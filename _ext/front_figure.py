"""Give the front page the scoreboard's figure, as it is stored."""

from base64 import b64decode
from pathlib import Path

import nbformat


def write(app):
    """Write the first image of the scoreboard where pages can show it."""
    book = Path(app.srcdir)
    page = nbformat.read(book / "chapters/scoreboard.ipynb", as_version=4)
    image = next(
        b64decode(output.data["image/png"])
        for cell in page.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    )
    target = book / "_build/scoreboard.png"
    target.parent.mkdir(exist_ok=True)
    # A file that is the same stays, and with it the pages that show it.
    if not target.is_file() or target.read_bytes() != image:
        target.write_bytes(image)


def setup(app):
    """Register the step."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
