"""The site, built and used in a real browser."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from io import BytesIO
from itertools import cycle, pairwise
from pathlib import Path

import pytest
from browsing import LEAST_CONTRAST, LOOKS, needs_browser, opened

from buildgpt.course import curves, gallery, owners, prose, zoo
from buildgpt.course.series import Series, write_tree

ROOT = Path(__file__).parent.parent
EACH_KIND = ("index", "course/index", "course/03-bigram", "course/06-head", "slider", "gallery")
EACH_KIND += ("search", "glossary")

sphinx = pytest.importorskip("sphinx", reason="needs the extra `site`")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """All of it, built; a warning is an error."""
    target = tmp_path_factory.mktemp("site") / "html"
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "tools" / "site.py"), str(target)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def visit(site, browser):
    """visit("course/01-bytes.html", width=360) opens a page."""
    with opened(browser, site.as_uri(), permissions=["clipboard-read", "clipboard-write"]) as tab:

        def visit(page: str, width: int = 1280, scheme: str = "light"):
            tab.set_viewport_size({"width": width, "height": 800})
            tab.emulate_media(color_scheme=scheme)
            tab.goto(f"{site.as_uri()}/{page}")
            return tab

        yield visit


@pytest.fixture
def small(site, browser):
    """A tab whose screenshots are half as wide and high as its pages, and which knows looks.js."""
    with opened(browser, site.as_uri(), device_scale_factor=0.5) as tab:
        tab.add_init_script(LOOKS)
        yield tab


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


# Figures.


def drawn(site: Path, page: str) -> dict[str, ET.Element]:
    """A page's figures by their titles; each is a picture that says what is seen on it."""
    text = (site / page).read_text(encoding="utf-8")
    found = {}
    for figure in re.findall(r'<figure class="drawn">.*?</figure>', text, flags=re.S):
        tree = ET.fromstring(figure)
        svg, caption = tree.find("svg"), tree.find("figcaption")
        title = svg.find("title").text
        assert svg.get("role") == "img" and len("".join(caption.itertext())) > 30
        assert svg.get("aria-label").startswith(f"{title}: ")
        assert len(svg.get("aria-label")) > 100
        found[title] = svg
    return found


def points(text: str) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in text.split()]


def lines_of(svg: ET.Element) -> dict[str, list[tuple[float, float]]]:
    """Each curve by its name in the legend, which looks alike, as places."""
    names = dict(
        (group.get("class"), following.text)
        for group, following in zip(svg, [*svg][1:])
        if group.tag == "g" and following.tag == "text"
    )
    groups = [group for group in svg if group.find("polyline") is not None]
    return {names[g.get("class")]: points(g.find("polyline").get("points")) for g in groups}


def read_off(svg: ET.Element, places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """What places mean by the numbers at the axes, of which the first and the last are taken."""
    across = [(float(t.get("x")), float(t.text)) for t in svg.iterfind("text[@class='x']")]
    heights = [
        float(g.get("d").split()[1].partition("H")[0]) for g in svg.iterfind("*[@class='grid']")
    ]
    up = [*zip(heights, (float(t.text) for t in svg.iterfind("text[@class='y']")))]

    def by(ticks, place):
        (a, low), (b, high) = ticks[0], ticks[-1]
        return low + (high - low) * (place - a) / (b - a)

    return [(by(across, x), by(up, y)) for x, y in places]


def are_at(found, steps, values) -> None:
    """Points are where they should be, as exactly as a picture is drawn."""
    assert [x for x, _ in found] == pytest.approx([*steps], abs=0.02)
    assert [y for _, y in found] == pytest.approx([*values], abs=0.0003)


def test_every_recorded_band_is_drawn_on_its_lessons_page(site):
    series = Series()
    recorded = curves.records(series.course)["curves"]
    for lesson in series.lessons:
        svg = drawn(site, f"course/{lesson.name}.html").get("A band of losses")
        assert (svg is not None) == (lesson.name in recorded), lesson.name
        if svg is None:
            continue
        mean, spread, width = (recorded[lesson.name][key] for key in ("mean", "spread", "width"))
        steps = [*range(1, len(mean) + 1)]
        low = [m - width * s for m, s in zip(mean, spread)]
        high = [m + width * s for m, s in zip(mean, spread)]
        (line,) = lines_of(svg).values()
        are_at(read_off(svg, line), steps, mean)
        edges = read_off(svg, points(svg.find("polygon").get("points")))
        are_at(edges, [*steps, *steps[::-1]], [*low, *high[::-1]])
        assert f"{mean[-1]:.2f} at step {len(mean)}" in svg.get("aria-label")


def test_the_schedules_are_those_of_the_lessons_own_code(site, tmp_path):
    """Computed here, by the series as it is at the lesson's end."""
    series = Series()
    write_tree(tmp_path, series.tree(series.after(series.find("12-schedule"))))
    asked = """if True:
        import json
        from gpt.config import TrainConfig
        from gpt.optim import learning_rate
        wishes = {"lr": 0.01, "warmup_steps": 40}
        configs = {s: TrainConfig(schedule=s, **wishes) for s in ("cosine", "wsd")}
        rates = {s: [learning_rate(i, 200, c) for i in range(200)] for s, c in configs.items()}
        print(json.dumps(rates))"""
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    svg = drawn(site, "course/12-schedule.html")["Two schedules"]
    seen = {name: read_off(svg, places) for name, places in lines_of(svg).items()}
    for name, rates in json.loads(done.stdout).items():
        assert [y for _, y in seen[name]] == pytest.approx(rates, abs=1e-6)
        are_at(seen[name], range(1, 201), rates)
    assert [*seen] == ["cosine", "wsd"]


def test_the_attention_map_is_what_the_lessons_output_shows(site):
    """Fields as strong as the recorded shares, none of the future; the demo's picture agrees."""
    recorded = prose.records(Series().course)
    text, shares = (recorded["drawn"]["shares of one head"][key] for key in ("text", "shares"))
    svg = drawn(site, "course/06-head.html")["An attention map"]
    fields = svg.findall("rect")
    past = [(row, column) for row in range(len(text)) for column in range(row + 1)]
    assert [float(f.get("fill-opacity")) for f in fields] == [shares[r][c] for r, c in past]
    left, top = float(fields[0].get("x")), float(fields[0].get("y"))
    at = [((float(f.get("y")) - top) / 16, (float(f.get("x")) - left) / 16) for f in fields]
    assert at == past
    letters = [t.text for t in svg.iterfind("text[@class='letter']")]
    assert "".join(letters[::2]).replace("␣", " ") == text
    picture = recorded["outputs"]["06-head/positions"].splitlines()
    for asks, row in zip(text, shares):
        grey = "".join(" .:-=+*%@"[round(8 * share)] * 2 for share in row)
        assert f"{asks!r:>4} |{grey}|" in picture
        assert sum(row) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("title", "step", "columns"),
    [
        ("Memory over length", "fused", {"written out": 1, "kernel": 3}),
        ("Time over length", "halves", {"written out": 1, "in halves": 2, "kernel": 3}),
    ],
)
def test_what_attention_costs_is_drawn_from_the_lessons_table(site, title, step, columns):
    output = prose.records(Series().course)["outputs"][f"21-attention/{step}"]
    table = [re.findall(r"[\d.]+", row) for row in output.splitlines() if re.match(r" *\d", row)]
    svg = drawn(site, "course/21-attention.html")[title]
    lengths = {float(t.get("x")): t.text for t in svg.iterfind("text[@class='x']")}
    found = lines_of(svg)
    assert [*found] == [*columns]
    for name, column in columns.items():
        assert [lengths[x] for x, _ in found[name]] == [row[0] for row in table]
        heights = [y for _, y in read_off(svg, found[name])]
        assert heights == pytest.approx([float(row[column]) for row in table], abs=0.1)


def test_the_gallerys_bars_are_as_long_as_its_losses(site):
    pictures, svg = gallery.recorded(Series()), drawn(site, "gallery.html")["Losses"]
    lengths = [float(bar.get("width")) for bar in svg.iterfind("rect[@class='bar']")]
    unit = lengths[0] / pictures[0].loss
    assert lengths == pytest.approx([unit * picture.loss for picture in pictures], abs=0.01)
    words = " ".join(t.text for t in svg.iterfind("text"))
    assert all(f"{picture.loss:.2f}" in words for picture in pictures)
    rising = [b.lesson for a, b in pairwise(pictures) if b.loss >= a.loss]
    told = re.findall(r"lesson (\d+)'s", svg.get("aria-label"))
    assert [*map(int, told)] == rising  # what is told of the others is that they are shorter


# Looks.


def screenshot(tab, place: Path, name: str):
    """The whole page, kept as a file; as high as the page, and nowhere empty for long."""
    from PIL import Image

    file = place / f"{name.replace('/', '-')}.jpg"
    shot = Image.open(BytesIO(tab.screenshot(path=file, full_page=True, type="jpeg", quality=50)))
    tall = tab.evaluate("document.documentElement.scrollHeight")
    grey = shot.convert("L")
    assert abs(2 * shot.height - tall) <= 2, name
    for top in range(0, max(1, shot.height - 400), 400):
        low, high = grey.crop((0, top, shot.width, top + 400)).getextrema()
        assert high - low > 60, f"{name} is empty from {2 * top} on"
    return grey


@needs_browser
def test_every_page_can_be_read_on_a_telephone_and_a_screen(site, small, tmp_path):
    """Nothing lies over something else or leaves its place, opened or not; colours stand out by day
    and by night; each page has one title. The next page begins as wide as the last one was."""
    found = []
    for page, widths in zip(pages(site), cycle([(360, 1280), (1280, 360)])):
        small.set_viewport_size({"width": widths[0], "height": 800})
        small.goto(f"{site.as_uri()}/{page}")
        assert small.locator("h1").count() == 1, page
        screenshot(small, tmp_path, page)
        for width in widths:
            small.set_viewport_size({"width": width, "height": 800})
            small.evaluate("looks.unfold()")
            found += [(page, width, said) for said in small.evaluate("looks.geometry()")]
        small.evaluate("looks.turn(1)")  # the tab that shows what changed
        found += [(page, "changes", said) for said in small.evaluate("looks.geometry()")]
        for scheme in ("dark", "light"):
            small.emulate_media(color_scheme=scheme)
            said = small.evaluate(f"looks.contrast({LEAST_CONTRAST})")
            found += [(page, scheme, one) for one in said]
    assert found == []


@needs_browser
def test_pages_of_each_kind_are_dark_at_night_and_light_by_day(site, small, tmp_path):
    """By screenshots: what most of the page's dots are like."""
    for page in EACH_KIND:
        for width in (360, 1280):
            small.set_viewport_size({"width": width, "height": 800})
            small.goto(f"{site.as_uri()}/{page}.html")
            small.evaluate("looks.still()")
            for scheme in ("light", "dark"):
                small.emulate_media(color_scheme=scheme)
                dots = screenshot(small, tmp_path, f"{page}-{width}-{scheme}").histogram()
                usual = max(range(256), key=dots.__getitem__)
                assert usual > 240 if scheme == "light" else usual < 60, (page, width, scheme)
                assert sum(1 for count in dots if count) > 20  # there is something to be seen


@needs_browser
def test_faults_in_a_pages_looks_are_found(small):
    """Each kind is planted beside something that is right."""
    small.set_viewport_size({"width": 360, "height": 800})
    small.goto("data:text/html,<title>x</title>")
    small.set_content(PLANTED)
    small.evaluate(LOOKS)
    said = " ".join(small.evaluate("looks.geometry()"))
    for fault in (
        '"over" lies over "under"',
        '"a long word" leaves its P',
        '"far out" leaves the window',
        "wide and scrolls sideways",
        "a picture has no size: <svg",
    ):
        assert fault in said
        said = said.replace(fault, "")
    assert "right" not in said
    pale = " ".join(small.evaluate("looks.contrast(4.5)"))
    for fault in ("grey on white", "white on a mark", "half gone", "pale drawn"):
        assert fault in pale
    assert "right" not in pale


PLANTED = """<body style="margin: 0; background: white; color: black; line-height: 1.2">
<p>right</p>
<p style="width: 30px; white-space: nowrap">a long word</p>
<pre style="width: 30px; overflow-x: auto">right, as this one is scrolled</pre>
<p style="color: #999">grey on white</p>
<p style="background: rgb(0 0 0 / 30%)"><span style="color: white">white on a mark</span></p>
<p style="background: #111; color: #eee">right</p>
<p style="opacity: 0.4">half gone</p>
<article><svg width="0" height="0"></svg>
<svg width="90" height="40"><text y="20" fill="#aaa">pale drawn</text></svg>
<svg width="90" height="40"><text y="20" fill="#222">right</text></svg></article>
<p style="position: absolute; top: 600px; margin: 0">under</p>
<p style="position: absolute; top: 606px; margin: 0">over</p>
<p style="position: absolute; top: 640px; margin: 0">right, a line</p>
<p style="position: absolute; top: 656px; margin: 0">right, the line below</p>
<p style="position: absolute; top: 700px; left: 340px; width: 100px">far out</p>
<p style="position: fixed; top: 0; left: -300px">right, a drawer that is closed</p>
</body>"""


# By keyboard, mouse and search.


@needs_browser
def test_copy_buttons_are_seen_and_named_for_who_comes_by_keyboard(visit):
    tab = visit("course/01-bytes.html")
    block = tab.locator("div.highlight").filter(has_text="class ByteTokenizer").first
    button = block.locator("button.copybtn")
    button.wait_for(state="attached")
    assert button.evaluate("button => getComputedStyle(button).opacity") == "0"
    is_here = "document.activeElement.matches('button.copybtn')"
    for _ in range(200):
        tab.keyboard.press("Tab")
        if tab.evaluate(is_here):
            break
    assert tab.evaluate(is_here)
    tab.wait_for_function("getComputedStyle(document.activeElement).opacity === '1'")
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    names = [one.get_attribute("aria-label") for one in tab.locator("button.copybtn").all()]
    assert all(name and name.startswith("Copy ") for name in names)
    assert tab.get_by_role("button", name="Copy gpt/tokenizer.py").count() > 0
    tab.keyboard.press("Enter")
    assert tab.evaluate("navigator.clipboard.readText()").strip()


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
