"""Every page of the site and the report of the studies, opened in headless Chromium.

No page may be wider than the screen of a desktop or of a phone, have a broken image or link, or log
an error. ``.ci/part docs`` builds the site and runs these tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from source_tree import ROOT

from seqnorm.studies.report import html

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.site
WIDTHS = {"desktop": 1280, "phone": 430}
# Elements that stick out, unless a box around them scrolls or cuts them off.
STICKING_OUT = """() => {
    const out = [];
    for (const e of document.body.querySelectorAll("*")) {
        const box = e.getBoundingClientRect();
        if (box.width === 0 || box.right <= innerWidth + 1) continue;
        let inside = false;
        for (let p = e.parentElement; p && p !== document.body; p = p.parentElement) {
            const style = getComputedStyle(p);
            if (style.overflowX !== "visible" && p.getBoundingClientRect().right <= innerWidth + 1)
                inside = true;
            if (style.position === "fixed") inside = true;  // a drawer beside the screen
        }
        if (!inside && getComputedStyle(e).position !== "fixed")
            out.push(e.outerHTML.slice(0, 120));
    }
    if (document.documentElement.scrollWidth > innerWidth)
        out.push(`the page is ${document.documentElement.scrollWidth} pixels wide`);
    return out;
}"""
BROKEN_IMAGES = """async () => {
    const images = [...document.images];
    for (const image of images) image.loading = "eager";
    await Promise.all(images.map(image => image.decode().catch(() => null)));
    return images.filter(i => !i.complete || i.naturalWidth === 0).map(i => i.src);
}"""
LINKS = "() => [...document.querySelectorAll('a[href]')].map(a => a.href)"
NAMES = "() => [...document.querySelectorAll('[id], a[name]')].map(e => e.id || e.name)"


def complaints(browser: Browser, pages: list[Path], width: int) -> list[str]:
    """Return whatever is wrong with the pages on a screen of this width."""
    found: list[str] = []
    names: dict[Path, set[str]] = {}
    links: list[tuple[Path, str]] = []
    context = browser.new_context(viewport={"width": width, "height": 900})
    opened = context.new_page()
    now: list[Any] = [None]

    def logged(message: Any) -> None:
        if message.type == "error":
            found.append(f"{now[0]}: the console says {message.text}")

    opened.on("console", logged)
    opened.on("pageerror", lambda error: found.append(f"{now[0]}: a script fails: {error}"))
    opened.on("requestfailed", lambda r: found.append(f"{now[0]}: {r.url} cannot be loaded"))
    for page in pages:
        now[0] = page.name
        opened.goto(page.as_uri())
        found += [f"{page.name}: broken image {src}" for src in opened.evaluate(BROKEN_IMAGES)]
        found += [f"{page.name}: sticks out: {what}" for what in opened.evaluate(STICKING_OUT)]
        names[page] = set(opened.evaluate(NAMES))
        links += [(page, link) for link in opened.evaluate(LINKS)]
    context.close()
    for page, link in links:
        address, part = urldefrag(link)
        parsed = urlparse(address)
        if parsed.scheme in ("http", "https", "mailto"):
            # There may be no network, so only the form of an address is checked.
            if parsed.scheme != "mailto" and "." not in parsed.netloc:
                found.append(f"{page.name}: the link {link!r} has no host")
            continue
        target = Path(unquote(parsed.path))
        if parsed.scheme != "file" or not target.is_file():
            found.append(f"{page.name}: the link {link!r} leads nowhere")
        elif part and target in names and unquote(part) not in names[target]:
            found.append(f"{page.name}: the link {link!r} leads to no place of its page")
    return found


def pages_of(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html(ROOT / "results" / "studies"), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_every_page_of_the_site(browser: Browser, site: Path, width: int) -> None:
    pages = pages_of(site)
    assert len(pages) > 25
    found = complaints(browser, pages, width)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_report_of_the_studies(browser: Browser, report: Path, width: int) -> None:
    found = complaints(browser, [report], width)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('<div style="width: 1400px">x</div>', "sticks out"),
        (f"<p>{'x' * 400}</p>", "sticks out"),
        ('<img src="missing.png">', "broken image"),
        ('<a href="missing.html">x</a>', "leads nowhere"),
        ('<a href="#missing">x</a>', "leads to no place"),
        ('<a href="http:///missing">x</a>', "has no host"),
        ("<script>undefined_function()</script>", "a script fails"),
        ("<script>console.error('oh')</script>", "the console says oh"),
    ],
)
def test_it_would_find_it(browser: Browser, tmp_path: Path, body: str, said: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html><body>{body}</body></html>", encoding="utf-8")
    found = complaints(browser, [page], 1280)
    assert any(said in complaint for complaint in found), found


def test_it_finds_nothing_else(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    scrolling = '<div style="overflow-x: auto"><p style="width: 3000px">x</p></div>'
    links = '<a href="#x">x</a> <a id="x" href="https://pytorch.org/docs">x</a>'
    page.write_text(f"<!doctype html><html><body>{scrolling}{links}</body></html>")
    assert not complaints(browser, [page], 430)
