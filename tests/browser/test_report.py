"""The report page in Chromium, as people open it: from the disk, at two widths, in both themes.

The page is made from this checkout's committed reports, drawn rows and an attention report of known weights.
"""

import json
import os
import shutil

import pytest

from minivlm.evaluation.report import write_report
from minivlm.files import read_json
from minivlm.paths import Paths
from tests.unit.evaluation.toys import conversation, cost_of, picture_bytes, write_table

pytestmark = pytest.mark.browser

WIDTHS = (1280, 768, 390)
A4 = 718  # pixels between the margins
CHROMIUM = os.environ.get("CHROMIUM", shutil.which("chromium") or shutil.which("google-chrome") or "")
LAST = "step,loss,val_loss\n1,2.5,\n100,0.5,0.45\n"
# For every text on the page: its colour, what is behind it, and how large it is.
TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility() || element.closest("title")) continue;
    const style = getComputedStyle(element);
    let behind = "";
    for (let up = element; up && !behind; up = up.parentElement) {
      const colour = getComputedStyle(up).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) behind = colour;
    }
    const colour = element.closest("svg") ? style.fill : style.color;
    found.push({text: walker.currentNode.textContent.trim().slice(0, 30), colour, behind});
  }
  return found;
}"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page with every section, in a folder of its own."""
    root, here = tmp_path_factory.mktemp("report"), Paths().root
    for name in ("reports", "data", "benchmarks/results"):
        shutil.copytree(here / name, root / name)
    for name in ("dvc.yaml", "dvc.lock", "params.yaml"):
        shutil.copy(here / name, root / name)
    paths = Paths(root)
    rows = [(conversation("?", f"第{i}张画"), picture_bytes(i), "{}") for i in range(6)]
    write_table(paths.table("heldout"), rows)
    _accept_all(paths, len(rows))
    (paths.reports("evaluate") / "attention.json").write_text(json.dumps(_attention(paths)), encoding="utf-8")
    kept = paths.state / "report"
    kept.mkdir(parents=True)
    for stage in ("pretrain", "sft"):
        (kept / f"{stage}.csv").write_text(LAST)
        (paths.reports(stage) / "cost.json").write_text(json.dumps(cost_of()), encoding="utf-8")
    return write_report(paths)


def _accept_all(paths, count):
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths.accepted("heldout").parent.mkdir(parents=True)
    pq.write_table(pa.table({"row": pa.array(range(count), pa.int64())}), paths.accepted("heldout"))


def _attention(paths):
    """Three words in each of two pictures: one looks top left, one bottom right, one everywhere."""
    looks = ([0.4, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.3], [0.1, 0.1, 0.1, 0.1])
    pictures = []
    for entry in read_json(paths.reports("evaluate") / "captions.json")[:2]:
        words = [{"start": 2 * i, "end": 2 * i + 2, "weights": weights} for i, weights in enumerate(looks)]
        caption = entry["sft"]["caption"]
        pictures.append({"file": entry["file"], "caption": caption, "region": [0, 0, 1, 1], "words": words})
    return {"stage": "sft", "layers": 2, "layer": 1, "grid": [2, 2], "picture_share": [0.5, 0.2], "pointing": None,
            "pictures": pictures}  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from playwright.sync_api import sync_playwright

    if not CHROMIUM:
        pytest.skip("no Chromium: set CHROMIUM to its path")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield chromium
        chromium.close()


class Visit:
    """The page opened at a width and in a theme, with what it asked for and complained of."""

    def __init__(self, browser, file, width=1280, theme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        self.page = context.new_page()
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(file.as_uri())
        self.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_shows_every_picture_and_asks_for_nothing(browser, page_file, width):
    visit = Visit(browser, page_file, width)
    assert [url for url in visit.requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert visit.complaints == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") == width
    over = """() => [...document.querySelectorAll('main *')].filter(each => !each.closest('.unseen, .seen, thead')
      && each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))"""
    assert visit.page.evaluate(over) == [], "nothing is cut off at the right"
    images = visit.page.evaluate("[...document.images].map(each => [each.naturalWidth, each.alt])")
    assert len(images) >= 12 + 2 + 6 and all(size > 0 and alt for size, alt in images)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_of_a_card_runs_over_its_edge(browser, page_file, width):
    visit = Visit(browser, page_file, width)
    over = """() => [...document.querySelectorAll('.card')].flatMap(card => {
      const edge = card.getBoundingClientRect().right;
      return [...card.querySelectorAll('td, th, p, svg text, figcaption, li')]
        .filter(each => each.checkVisibility() && !each.closest('.unseen, thead'))
        .filter(each => each.getBoundingClientRect().right > edge + 1).map(each => each.textContent.slice(0, 60));
    })"""
    assert visit.page.evaluate(over) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_asks_for(browser, page_file, theme):
    texts = Visit(browser, page_file, theme=theme).page.evaluate(TEXTS)
    assert len(texts) > 300
    weak = {
        (text["text"], text["colour"], text["behind"])
        for text in texts
        if contrast(text["colour"], text["behind"]) < 4.5
    }
    assert weak == set()


def test_themes_differ(browser, page_file):
    grounds = {
        Visit(browser, page_file, theme=theme).page.evaluate("getComputedStyle(document.body).backgroundColor")
        for theme in ("light", "dark")
    }
    assert len(grounds) == 2


def test_choosing_a_word_shows_its_overlay_by_mouse_and_by_keyboard(browser, page_file):
    page = Visit(browser, page_file).page
    card = page.locator(".look").first
    shown = "each => [...each.querySelectorAll('.shade')].map(s => getComputedStyle(s).visibility == 'visible')"
    assert card.evaluate(shown) == [True, False, False], "at first the word that looks most sharply"
    bright = card.screenshot()
    card.locator("label").nth(1).click()
    assert card.evaluate(shown) == [False, True, False]
    assert card.screenshot() != bright
    page.keyboard.press("ArrowRight")
    assert card.evaluate(shown) == [False, False, True]
    others = page.locator(".look").nth(1)
    assert others.evaluate(shown) == [True, False, False], "each picture has its own choice"


def test_the_keyboard_reaches_the_contents_and_they_lead_to_the_sections(browser, page_file):
    page = Visit(browser, page_file).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('nav') !== null")
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1
    assert page.locator("nav a").count() == page.locator("section h2").count() == 9


def test_printed_it_is_black_on_white_without_the_contents(browser, page_file):
    page = Visit(browser, page_file, theme="dark").page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert not page.locator("nav").is_visible()
    page.set_viewport_size({"width": A4, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") == A4


def contrast(one, other):
    """The contrast ratio of two CSS colours by WCAG 2."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    channels = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
