"""The site, built and used in a real browser."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from buildgpt.course import gallery, owners, zoo
from buildgpt.course.series import Series

ROOT = Path(__file__).parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]

sphinx = pytest.importorskip("sphinx", reason="needs the extra `site`")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """All of it, built; a warning is an error."""
    target = tmp_path_factory.mktemp("site") / "html"
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "tools" / "site.py"), str(target)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `site`")
    sandbox = [] if os.name == "nt" or os.getuid() else ["--no-sandbox"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *sandbox])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(site, browser):
    """visit("course/01-bytes.html", width=360) opens a page; what it asks for and complains of is
    looked at in the end."""
    asked, complaints = [], []
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda said: complaints.append(f"{tab.url}: {said.type} {said.text}"))
    tab.on("pageerror", lambda error: complaints.append(f"{tab.url}: {error}"))

    def visit(page: str, width: int = 1280, scheme: str = "light"):
        tab.set_viewport_size({"width": width, "height": 800})
        tab.emulate_media(color_scheme=scheme)
        tab.goto(f"{site.as_uri()}/{page}")
        return tab

    yield visit
    context.close()
    assert [url for url in asked if not url.startswith((site.as_uri(), "data:"))] == []
    assert complaints == []


def pages(site: Path) -> list[str]:
    return sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))


def test_every_lesson_and_every_step_has_its_place(site):
    for lesson in Series().lessons:
        page = (site / "course" / f"{lesson.name}.html").read_text(encoding="utf-8")
        assert lesson.title in page
        assert f"You will see: {lesson.facts['sees']}" in page
        for step in lesson.steps:
            assert f"{step.label} {step.patch.subject}" in page.replace("&#39;", "'")


def test_the_slider_holds_the_files_of_every_commit(site):
    """Its versions, without their colours, are the series' trees."""
    from html import unescape
    from re import sub

    text = (site / "_static" / "series.js").read_text(encoding="utf-8")
    data = json.loads(text.removeprefix("window.SERIES = ").removesuffix(";\n"))
    series = Series()
    assert len(data["steps"]) == len(series.steps)
    for number, step in enumerate(data["steps"], 1):
        tree = series.tree(number)
        assert list(step["files"]) == sorted(tree)
        for path, version in step["files"].items():
            lines = data["versions"][path][version]["lines"]
            plain = [unescape(sub(r"<[^>]+>", "", line)) for line in lines]
            assert "\n".join(plain) == tree[path].rstrip("\n")


def text_of(page: Path) -> str:
    """What a page says, without its marks and layout."""
    from html import unescape
    from re import DOTALL, sub

    body = sub(r"<(script|style).*?</\1>", "", page.read_text(encoding="utf-8"), flags=DOTALL)
    return " ".join(unescape(sub(r"<[^>]+>", "", body)).split())


def test_the_gallery_shows_what_was_recorded(site):
    pictures, page = gallery.recorded(Series()), text_of(site / "gallery.html")
    assert {picture.lesson for picture in pictures} == {
        lesson.number for lesson in gallery.hanging(Series())
    }
    for picture in pictures:
        assert f"Lesson {picture.lesson}: {picture.title}" in page
        assert f"Loss {picture.loss:.2f}." in page
        assert " ".join((gallery.PROMPT + gallery.readable(picture.text)).split()) in page


@needs_browser
def test_the_zoo_shows_symptoms_and_hides_sources(visit):
    tab = visit("zoo.html")
    bugs = zoo.bugs(Series())
    details = tab.locator("article details")
    assert details.count() == len(bugs)
    seen = " ".join(tab.locator("article").inner_text().split())
    for bug, hiding in zip(bugs, details.all()):
        title, address = bug.facts["source"]["title"], bug.facts["source"]["address"]
        assert bug.facts["title"] in seen
        assert title not in seen
        link = hiding.locator(f'a[href="{address}"]')
        assert not link.is_visible()
        hiding.locator("summary").press("Enter")
        assert link.is_visible() and title in hiding.inner_text()
        for told in (bug.facts["explanation"], *bug.facts["hints"]):
            assert " ".join(told.split())[:60] not in seen


def test_a_page_says_who_writes_each_symbol(site):
    """Each step that left a line in the core is linked with the slider's page of it."""
    page = (site / "owners.html").read_text(encoding="utf-8")
    owned = owners.owners(Series())
    for one in owned:
        assert one.path in page and one.symbol in page
        assert all(f'href="slider.html#{step.label}"' in page for step, _ in one.carved())
    written = sum(one.lines - one.uncarved for one in owned)
    assert f"write {written:,} of the core's {sum(one.lines for one in owned):,} lines" in page


def test_only_a_former_site_is_written_over(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    tool = Path(__file__).parent.parent / "tools" / "site.py"
    done = subprocess.run([sys.executable, tool, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and "holds something else than a site" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


@needs_browser
def test_no_page_scrolls_sideways_on_a_telephone(site, visit):
    for page in pages(site):
        tab = visit(page, width=360)
        assert tab.evaluate("document.scrollingElement.scrollWidth") <= 360, page


@needs_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_pages_are_dark_at_night_and_light_by_day(visit, width):
    """By screenshots: what most of the page's dots are like."""
    from io import BytesIO

    from PIL import Image

    for page in ("index.html", "course/03-bigram.html", "slider.html"):
        brightness = {}
        for scheme in ("light", "dark"):
            shot = visit(page, width, scheme).screenshot()
            grey = Image.open(BytesIO(shot)).convert("L")
            dots = grey.histogram()
            brightness[scheme] = max(range(256), key=dots.__getitem__)
            assert sum(1 for count in dots if count) > 20  # there is something to be seen
        assert brightness["dark"] < 60 < 240 < brightness["light"], page


@needs_browser
def test_search_finds_a_lesson_without_a_network(visit):
    tab = visit("search.html?q=bigram")
    tab.wait_for_selector("#search-results li a")
    found = tab.locator("#search-results li a").all_inner_texts()
    assert any("bigram" in title for title in found)


@needs_browser
def test_the_slider_moves_by_keyboard_and_by_buttons(visit):
    tab = visit("slider.html")
    title = tab.locator("#slider [data-title]")
    first, second = (f"{s.label}  {s.patch.subject}" for s in Series().steps[:2])
    assert title.inner_text().split() == first.split()
    tab.locator("#slider [data-range]").focus()
    tab.keyboard.press("ArrowRight")
    assert title.inner_text().split() == second.split()
    assert tab.locator("#slider .line.new").count() > 0
    tab.get_by_label("the commit before").click()
    assert title.inner_text().split() == first.split()
    tab.locator("#slider [data-range]").focus()
    tab.keyboard.press("End")
    assert "/model.py" in tab.locator("#slider [data-files]").inner_text()
    tab.get_by_role("button", name="gpt/model.py").click()
    assert "class GPT" in tab.locator("#slider [data-code]").inner_text()


@needs_browser
def test_a_link_leads_to_a_commit(visit):
    tab = visit("slider.html#2.3")
    assert tab.locator("#slider [data-title]").inner_text().startswith("2.3")


@needs_browser
def test_code_can_be_copied_and_what_is_hidden_opens(visit):
    tab = visit("course/01-bytes.html")
    block = tab.locator("div.highlight").filter(has_text="class ByteTokenizer").first
    block.hover()
    block.locator("button.copybtn").click()
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines() == block.locator("pre").inner_text().rstrip().splitlines()
    hint = tab.locator("details", has_text="Hint 1").first
    assert hint.get_attribute("open") is None
    hint.locator("summary").press("Enter")
    assert hint.get_attribute("open") is not None
