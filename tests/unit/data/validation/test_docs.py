"""Data Docs that can be read without a network."""

import re
from html.parser import HTMLParser

import pytest

from minivlm.data.validation import metadata, parquet_rows
from minivlm.data.validation.docs import offline_docs
from minivlm.data.validation.engine import GreatExpectations
from minivlm.data.validation.gate import check_tables
from tests.unit.data.validation.rows import LIMITS, caption, good_rows, picture, write_all


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    """The Data Docs of a run in which one heldout row is rejected."""
    folder = tmp_path_factory.mktemp("docs")
    heldout = [*good_rows(2, first=20), (caption(), picture(5)[:-60])]
    tables = write_all(tmp_path_factory.mktemp("tables"), heldout=heldout)
    engine = GreatExpectations(folder)
    verdicts = check_tables(tables, limits=LIMITS, max_bad_fraction=0.0, workers=1, engine=engine)
    engine.build_docs()
    offline_docs(folder, verdicts.values())
    return folder


def links(page):
    """The targets of every href and src of a page."""
    found = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.extend(value for name, value in attrs if name in ("href", "src"))

    Links().feed(page.read_text(encoding="utf-8"))
    return found


def test_no_page_names_another_host(docs):
    pages = list(docs.rglob("*.html"))
    assert len(pages) == 1 + 2 * 4 * 2  # the index; suite and result, of table and rows, of four files
    for page in pages:
        assert re.findall(r"""(?:https?:)?//[a-z][^\s"']*""", page.read_text(encoding="utf-8")) == []


def test_every_link_leads_to_a_page_or_a_place_that_exists(docs):
    for page in docs.rglob("*.html"):
        for target in links(page):
            path, _, anchor = target.partition("#")
            aimed = (page.parent / path).resolve() if path else page
            assert aimed.is_file(), (page, target)
            if anchor:
                assert re.search(rf'id="?{re.escape(anchor)}[ ">]', aimed.read_text(encoding="utf-8")), (
                    page,
                    target,
                )


def test_the_index_names_the_rejected_row_and_leads_to_all_results(docs):
    index = (docs / "index.html").read_text(encoding="utf-8")
    assert "heldout:2" in index and "picture_decodes: truncated" in index
    assert sum(target.startswith("validations/") for target in links(docs / "index.html")) == 8


def test_the_results_state_the_expectations_in_words_with_the_image_mark_as_text(docs):
    (page,) = docs.glob("validations/heldout_rows/**/*.html")
    text = page.read_text(encoding="utf-8")
    assert "The user&#x27;s turns have one &lt;image&gt; for each picture" in text
    assert "<image>" not in text


def test_every_page_carries_its_style(docs):
    for page in docs.rglob("*.html"):
        assert "<style>" in page.read_text(encoding="utf-8")


def test_a_table_checked_in_pieces_has_a_page_for_each_that_the_index_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "PIECE_ROWS", 2)
    monkeypatch.setattr(parquet_rows, "BATCH_ROWS", 2)
    engine = GreatExpectations(tmp_path / "docs")
    tables = write_all(tmp_path / "tables", sft=[*good_rows(3), (caption(), b"")])
    verdicts = check_tables(tables, limits=LIMITS, max_bad_fraction=0.0, workers=1, engine=engine)
    engine.build_docs()
    offline_docs(tmp_path / "docs", verdicts.values())
    index = tmp_path / "docs/index.html"
    assert len([target for target in links(index) if target.startswith("validations/sft_rows/")]) == 2
    assert len([target for target in links(index) if target == "expectations/sft_rows.html"]) == 1
    assert all((index.parent / target).is_file() for target in links(index))
    assert re.findall(r"sft_rows/[^>]*>([^<]*)<", index.read_text(encoding="utf-8")) == ["rows 1", "rows 2"]
    assert "sft:3" in index.read_text(encoding="utf-8")
