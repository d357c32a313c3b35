"""Read the built site in a browser, as its readers do.

`make book` builds the site and `make browser` finds the browser. Nothing
outside the site can be reached: no page may need it.
"""

import functools
import gzip
import os
import re
import shutil
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Page, sync_playwright
from sphinx_external_toc.parsing import parse_toc_yaml

from pages import prose, tokens
from stamp import ROOT

SITE = ROOT / "_build" / "html"
DOCUMENTS = list(parse_toc_yaml(ROOT / "_toc.yml"))
CHAPTERS = [name for name in DOCUMENTS if name.count("/") == 2]
# What Sphinx adds to them.
PAGES = [*DOCUMENTS, "genindex", "py-modindex", "search"]

MEGABYTE = 1e6
WEIGHT = 2.5 * MEGABYTE
# What a static host such as GitHub Pages sends compressed.
TEXT = {".css", ".html", ".js", ".json", ".svg", ".txt"}

PHONE = {"width": 390, "height": 844}

# A loaded machine is slow, and not at fault; in milliseconds.
PATIENCE = 180_000

# The theme waits so long, in milliseconds, before it adapts to a new size.
RESIZED = 400

AXE = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# Contrast is slow. Of elements that one style sheet cannot tell apart the
# first is enough, and maths, all boxes, has the colour of its text.
THIN = """() => {
  document.querySelectorAll("mjx-container").forEach((e) => e.remove());
  document.querySelectorAll("details").forEach((e) => {e.open = true});
  const seen = new Set(), repeats = [];
  for (const e of document.body.querySelectorAll("*")) {
    const texts = [...e.childNodes].filter((n) => n.nodeType === 3);
    if (!texts.some((n) => n.data.trim()) || !e.checkVisibility()) continue;
    let kind = "";
    for (let a = e; a !== document.body; a = a.parentElement)
      kind += [a.tagName, a.getAttribute("class"), a.getAttribute("style"),
        a.rowIndex % 2];
    if (!seen.has(kind)) e.dataset.first = "";
    else if (e.matches("pre span")) repeats.push(e);
    seen.add(kind);
  }
  for (const e of repeats) e.replaceWith(...e.childNodes);
  axe.configure({rules: [{id: "color-contrast", selector: "[data-first]"}]});
}"""
CHECK = """async ([theme, rules]) => {
  document.documentElement.dataset.theme = theme;
  const found = await axe.run(
    document, {runOnly: rules, resultTypes: ["violations"], preload: false});
  return found.violations.flatMap(({id, nodes}) => nodes.map(
    (node) => `${theme}, ${id}: ${node.target} ${node.failureSummary}`));
}"""

# Opened from the disk, where each file is an origin of its own, the theme
# asks for its icons' fonts twice: by a preload, which is refused, and by its
# style sheet, which is not.
KNOWN_FROM_DISK = re.compile(r"/fontawesome/|net::ERR_FAILED")


@dataclass
class Visit:
    """A page that was opened, and what happened meanwhile."""

    name: str
    page: Page
    requests: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def server():
    if not (SITE / "index.html").is_file():
        pytest.fail(f"no site in {SITE}; run `make book`", pytrace=False)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=SITE)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture(scope="module")
def browser():
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    # Stopped with the module: its event loop would be in the others' way.
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM") or shutil.which("chromium")
        yield playwright.chromium.launch(executable_path=path, args=[alone])


def opened(browser: Browser, name: str, url: str) -> Visit:
    context = browser.new_context(viewport=PHONE, has_touch=True)
    context.set_default_timeout(PATIENCE)
    visit = Visit(name, context.new_page())
    on = visit.page.on
    on("request", lambda request: visit.requests.append(request.url))
    on("requestfailed", lambda request: visit.failed.append(request.url))
    on(
        "response",
        lambda answer: answer.ok or visit.failed.append(answer.url),
    )
    on(
        "console",
        lambda message: (
            message.type not in ("error", "warning")
            or visit.console.append(f"{message.text} {message.location}")
        ),
    )
    on("pageerror", lambda error: visit.console.append(str(error)))
    visit.page.goto(url)
    visit.page.evaluate(
        "async () => {await window.MathJax?.startup?.promise;"
        " await document.fonts.ready}"
    )
    return visit


@pytest.fixture(scope="module", params=PAGES)
def visit(request, browser, server):
    """One visit of each page, which the tests below share, in their order."""
    url = f"{server}/{request.param}.html"
    visit = opened(browser, request.param, url)
    yield visit
    visit.page.context.close()


def none(found):
    if found := list(found):
        pytest.fail("\n".join(map(str, found)), pytrace=False)


@functools.cache
def soup(name: str) -> BeautifulSoup:
    return BeautifulSoup((SITE / name).read_text("utf-8"), "html.parser")


def source(name: str):
    return next(ROOT.glob(f"{name}.*"))


def assert_maths(page: Page, name: str) -> None:
    """Assert that every equation of the source is typeset, by its fonts."""
    none(page.locator("mjx-merror").all_inner_texts())
    # A command that MathJax does not know is no error to it, but red text.
    set_as_text = page.locator("mjx-container mtext").all_text_contents()
    none(text for text in set_as_text if text.startswith("\\"))
    bare = page.locator(".math:not(:has(mjx-container))")
    none(bare.all_inner_texts())
    text = page.evaluate(
        """() => {
          const main = document.querySelector("main").cloneNode(true);
          main.querySelectorAll("pre, code, mjx-container, script, style")
            .forEach((e) => e.remove());
          return main.textContent;
        }"""
    )
    none(re.findall(r"\\[(\[]|\$\$|\\begin|\\tag", text))
    if name in DOCUMENTS:
        equations = sum(
            token.type.startswith("math_")
            for cell in prose(source(name))
            for token in tokens(cell)
        )
        typeset = page.locator(".math mjx-container").count()
        assert typeset >= equations, "or the site is older than its source"
    fonts = page.evaluate(
        "[...document.fonts].filter(f => f.status == 'error')"
        ".map(f => f.family)"
    )
    none(fonts)


def test_maths_is_typeset(visit):
    assert_maths(visit.page, visit.name)


def test_weight(visit, server):
    local = {
        SITE / unquote(urlsplit(url).path).lstrip("/")
        for url in visit.requests
        if url.startswith(server)
    }
    weights = Counter()
    for path in filter(Path.is_file, local):
        data = path.read_bytes()
        weights[path.relative_to(SITE).as_posix()] = len(
            gzip.compress(data, 6) if path.suffix in TEXT else data
        )
    assert weights.total() <= WEIGHT, weights.most_common(8)


def test_images_have_alternative_text(visit):
    images = visit.page.locator("article img")
    none(
        image.get_attribute("src")[:80]
        for image in images.all()
        if not (image.get_attribute("alt") or "").strip()
    )
    assert images.evaluate_all(
        "all => all.every(i => i.loading != 'lazy' && i.naturalWidth > 0)"
    )


def test_solutions_open(visit):
    """By a click, by Enter and by the space bar; then they can be read."""
    for solution in visit.page.locator("article details").all():
        summary = solution.locator("> summary")
        assert summary.inner_text().strip()
        is_open = functools.partial(solution.evaluate, "e => e.open")
        assert not is_open()
        summary.click()
        assert is_open()
        assert solution.bounding_box()["height"] > 60
        summary.press("Enter")
        assert not is_open()
        summary.press("Space")
        assert is_open()


def test_no_overflow_on_a_phone(visit):
    """With the solutions open; what is cut off counts, what scrolls not."""
    none(
        visit.page.evaluate(
            """() => [...document.querySelectorAll("article *")]
              .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
              .filter((e) => {
                while ((e = e.parentElement))
                  if (/auto|scroll/.test(getComputedStyle(e).overflowX))
                    return false;
                return true;
              })
              .map((e) => e.outerHTML.slice(0, 120)).slice(0, 3)"""
        )
    )
    width = visit.page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"]


def stored_explorables(name: str) -> int:
    """Count the explorables of a notebook's stored outputs."""
    return source(name).read_text("utf-8").count('class=\\"explorable\\"')


def states(slider, figure) -> list[tuple[str, str, str]]:
    """Return what is seen and said at each value, by the arrow keys."""
    found = []
    slider.press("Home")
    for _ in range(int(slider.get_attribute("max")) + 1):
        found.append(
            (
                figure.get_attribute("src"),
                figure.get_attribute("alt"),
                slider.get_attribute("aria-valuetext"),
            )
        )
        slider.press("ArrowRight")
    return found


def test_explorables_move(visit):
    """Each slider by keyboard, mouse and touch, and the button that plays."""
    explorables = visit.page.locator(".explorable")
    if visit.name in CHAPTERS:
        assert explorables.count() == stored_explorables(visit.name) >= 1
    for explorable in explorables.all():
        figure = explorable.locator("img")
        sliders = explorable.locator("input[type=range]")
        assert sliders.count() >= 1

        def seen(figure=figure, explorable=explorable):
            figure.evaluate("e => e.decode()")
            return (
                figure.screenshot(),
                explorable.inner_text(),
                figure.get_attribute("alt"),
            )

        for slider in sliders.all():
            label = slider.evaluate("e => [...e.labels].map(l => l.innerText)")
            assert len(label) == 1
            assert label[0].strip()
            tops = "e => [e.labels[0], e.nextSibling].map(x => x.offsetTop)"
            name, value = slider.evaluate(tops)
            assert name == value, "or the value is not beside the name"
            for kind in zip(*states(slider, figure), strict=True):
                assert len(set(kind)) == len(kind)
            before = seen()  # at the end, where the last arrow leads
            width = slider.bounding_box()["width"]
            for act, part in ((slider.click, 0.05), (slider.tap, 0.95)):
                act(position={"x": part * width, "y": 8})
                after = seen()
                for was, now in zip(before, after, strict=True):
                    assert now != was
                before = after
        plays = '"play": true' in explorable.evaluate(
            "e => e.parentElement.querySelector('script').text"
        )
        buttons = explorable.get_by_role("button")
        assert buttons.count() == plays
        for button in buttons.all():
            before = figure.screenshot()
            button.click()
            visit.page.wait_for_timeout(600)
            assert figure.screenshot() != before
            button.click()


def test_on_paper(visit):
    """Light colours; of an explorable its figure, and no control."""
    page = visit.page
    theme = """event => {
      dispatchEvent(new Event(event));
      return document.documentElement.dataset.theme;
    }"""
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert page.evaluate(theme, "beforeprint") == "light"
    page.emulate_media(media="print")
    for explorable in page.locator(".explorable").all():
        assert explorable.locator("img").is_visible()
        assert not explorable.locator("input:visible, button:visible").count()
    page.emulate_media(media="screen")
    assert page.evaluate(theme, "afterprint") == "dark"


def test_accessible(visit):
    """WCAG 2.2, levels A and AA: all rules in light, contrast in dark too."""
    page = visit.page
    page.add_style_tag(content="* {transition: none !important}")
    page.evaluate(AXE)
    page.evaluate(THIN)
    page.wait_for_timeout(RESIZED)
    none(
        page.evaluate(CHECK, ["light", WCAG])
        + page.evaluate(CHECK, ["dark", ["color-contrast"]])
    )


def test_nothing_is_asked_of_another_server(visit, server):
    """Nor by what was moved and unfolded above, or is not loaded here."""
    none(
        url
        for url in visit.requests
        if not url.startswith((f"{server}/", "data:", "blob:"))
    )


def test_no_request_fails(visit):
    none(visit.failed)


def test_console_is_silent(visit):
    none(visit.console)


@pytest.mark.parametrize("name", PAGES)
def test_no_part_of_a_page_lies_elsewhere(name):
    """Nor of what this browser asks for late: in print, far down, ahead."""
    none(
        tag
        for tag in soup(f"{name}.html").select("[src], [srcset], link[href]")
        for key in ("src", "srcset", "href")
        if re.search(r"^(?!data:).*//", tag.get(key) or "")
    )


@pytest.mark.parametrize("name", PAGES)
def test_internal_links_resolve(name):
    folder = (SITE / f"{name}.html").parent
    broken = []
    for tag in soup(f"{name}.html").select("[href], [src]"):
        link = tag.get("href") or tag.get("src")
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        path = (folder / unquote(parts.path)).resolve()
        target = path if parts.path else SITE / f"{name}.html"
        if not target.is_file():
            broken.append(link)
        elif parts.fragment and target.suffix == ".html":
            page = soup(target.relative_to(SITE).as_posix())
            if not page.find(id=unquote(parts.fragment)):
                broken.append(link)
    none(broken)


@pytest.mark.parametrize("name", CHAPTERS)
def test_without_scripts_the_stills_are_left(name, browser):
    page = browser.new_page(java_script_enabled=False)
    page.set_default_timeout(PATIENCE)
    page.goto((SITE / f"{name}.html").as_uri())
    explorables = page.locator(".explorable")
    assert explorables.count() == stored_explorables(name)
    for explorable in explorables.all():
        assert explorable.locator("img").bounding_box()["height"] > 100
        assert explorable.locator("img").is_visible()
        assert explorable.locator("*").count() == 1
    page.close()


@functools.cache
def words(name: str) -> Counter:
    text = soup(f"{name}.html").find("article").get_text(" ")
    return Counter(re.findall(r"\b[a-z]{8,}\b", text.lower()))


def own_word(name: str) -> str:
    """Return the word that tells a page best from the others."""
    pages = Counter(word for other in DOCUMENTS for word in words(other))
    return max(words(name), key=lambda w: (words(name)[w] / pages[w] ** 2, w))


def found(page: Page, word: str) -> list[str]:
    """Type a word into the search page and return what it links."""
    box = page.locator("main input[type=search]")
    box.fill(word)
    box.press("Enter")
    page.get_by_text(re.compile("Search finished")).wait_for()
    return page.locator("#search-results li a").evaluate_all(
        "all => all.map(a => a.href)"
    )


@pytest.mark.parametrize("name", CHAPTERS)
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_search_finds_each_chapter(name, scheme, browser, server):
    root = server if scheme == "http" else SITE.as_uri()
    visit = opened(browser, "search", f"{root}/search.html")
    links = found(visit.page, own_word(name))
    assert any(link.split("?")[0] == f"{root}/{name}.html" for link in links)
    none(m for m in visit.console if not KNOWN_FROM_DISK.search(m))
    visit.page.context.close()


@pytest.mark.parametrize("name", [*CHAPTERS, "chapters/index"])
def test_reads_from_the_disk(name, browser):
    visit = opened(browser, name, (SITE / f"{name}.html").as_uri())
    assert_maths(visit.page, name)
    none(url for url in visit.requests if not url.startswith("file:"))
    none(m for m in visit.console if not KNOWN_FROM_DISK.search(m))
    visit.page.context.close()


def test_the_address_of_the_site_leads_to_its_first_page(browser, server):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{server}/")
    page.wait_for_url(f"{server}/{DOCUMENTS[0]}.html")
    page.close()
