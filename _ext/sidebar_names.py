"""Name the buttons that unfold the sidebar, for readers who hear it.

The theme draws them as arrows without a text.
"""


def name_buttons(app, pagename, templatename, context, doctree):
    """Let each button say which pages it unfolds."""
    make = context.get("generate_toctree_html")
    if make is None:
        return

    def named(kind, **options):
        sidebar = make(kind, **options)
        for summary in getattr(sidebar, "select", lambda _: [])("summary"):
            title = summary.find_parent("li").find("a").get_text(strip=True)
            summary["aria-label"] = f"Pages of {title}"
        return sidebar

    context["generate_toctree_html"] = named


def setup(app):
    """Register the step, after the theme's own."""
    app.connect("html-page-context", name_buttons, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
