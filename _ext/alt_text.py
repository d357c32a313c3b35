"""Give notebook figures the alternative text of their output metadata.

A figure's alternative text travels with its output, as
``metadata["image/png"]["alt"]``, where Jupyter puts an image's attributes.
myst-nb reads width and height there, but not alt.
"""

from myst_nb.core.render import load_mime_renders


class AltText:
    """A myst-nb mime renderer that adds alt to every image."""

    mime_priority_overrides = ()

    @staticmethod
    def handle_mime(renderer, data, inline):
        """Render an image, or return None for anything else."""
        if not data.mime_type.startswith("image/"):
            return None
        images = renderer.render_image(data)
        alt = data.output_metadata.get(data.mime_type, {}).get("alt", "")
        if not alt.strip():
            renderer.logger.warning(
                f"cell {data.cell_index}: image without alternative text",
                subtype="alt",
                line=data.line,
            )
        for image in images:
            image["alt"] = alt
        return images


def setup(app):
    """Register the renderer."""
    # myst-nb finds renderers by entry point, which only an installed package
    # has; this is the list that it keeps them in.
    renderers = load_mime_renders()
    if AltText not in renderers:
        renderers.append(AltText)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
