"""Documents: links that lead somewhere, pictures with a text, commands that the real command line takes."""

import json
import re
from pathlib import Path

import pytest

from minivlm.cli.serve import ready_line
from minivlm.ports import HOST
from minivlm.serving.door import CHAT
from minivlm.serving.server import PORT
from minivlm.serving.visit import Visit
from tests.contract import documents
from tests.contract.command_lines import fault
from tests.contract.documents import DOCUMENTS, READMES
from tests.contract.imports import ROOT

DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ")  # as the server's log begins a line


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files_and_anchors_that_are_there(name):
    assert [link for link in documents.links(name) if not leads_somewhere(name, link)] == []


def leads_somewhere(name: str, link: str) -> bool:
    """Whether a link names a file, and where it names a place in one, that too; pages of others count."""
    if re.match(r"[a-z]+:", link):
        return True
    path, _, anchor = link.partition("#")
    target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
    if not target.exists() or not anchor:
        return target.exists()
    return target.suffix == ".md" and anchor in documents.anchors(str(target.relative_to(ROOT)))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_picture_has_a_text_for_those_who_cannot_see_it(name):
    text = documents.read(name)
    tags = re.findall(r"<img\b[^>]*>", text)
    assert [tag for tag in tags if not re.search(r'alt="[^"]+"', tag)] == []
    assert re.findall(r"!\[\s*\]\(", text) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_are_those_of_the_real_command_line(name):
    """Every `minivlm`, `python -m`, `make` and `dvc` line: subcommands and options exist, arguments are enough."""
    faults = {}
    for line in documents.command_lines(name):
        words = documents.ours(line)
        if words and (found := fault(words)):
            faults[line] = found
    assert faults == {}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_in_a_sentence_exist(name):
    """`minivlm pin --update` in the text: as in a block, but arguments may be left out or stand for something."""
    faults = {}
    for line in documents.named_commands(name):
        words = line.split()
        if (found := fault(words)) and not found.startswith("Missing") and "requires an argument" not in found:
            faults[line] = found
    assert faults == {}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_code_blocks_name_their_language(name):
    """Blocks of commands are found by it."""
    text = documents.read(name)
    opened = re.findall(r"^```(.*)$", text, flags=re.MULTILINE)
    assert len(opened) % 2 == 0
    first = [block.lstrip().split(" ")[0] for block in documents.blocks(name, "")]
    assert [word for word in first if word in documents.COMMANDS] == []


def test_every_document_is_reached_from_the_readme():
    reached, waiting = set(), list(READMES)
    while waiting:
        name = waiting.pop()
        reached.add(name)
        for link in documents.links(name):
            path = ((ROOT / name).parent / link.partition("#")[0]).resolve()
            if path.suffix == ".md" and path.is_file() and path.is_relative_to(ROOT):
                other = str(path.relative_to(ROOT))
                waiting += [other] if other not in reached and other not in waiting else []
    assert set(DOCUMENTS) - reached == set()


def test_both_readmes_have_the_same_structure():
    english, chinese = READMES
    assert [level for level, _ in documents.headings(english)] == [
        level for level, _ in documents.headings(chinese)
    ]
    assert documents.command_lines(english) == documents.command_lines(chinese)
    assert documents.blocks(english, "mermaid") == documents.blocks(chinese, "mermaid")
    given = [set(re.findall(r'<a id="([^"]+)">', documents.read(name))) for name in READMES]
    assert given[0] == given[1]
    other = {"README.zh-CN.md": "README.md"}
    assert [other.get(link, link) for link in documents.links(english)] == documents.links(chinese)


def test_the_chinese_readme_is_in_chinese():
    """No paragraph, table cell or comment was left in English."""
    text = re.sub(r"`[^`\n]*`|<[^>]*>|\[English\]", "", documents.prose("README.zh-CN.md"))
    lines = [line for line in text.splitlines() if re.search(r"[A-Za-z]{3,}( [A-Za-z]{2,}){4}", line)]
    assert lines == []


def test_paths_named_in_backticks_exist():
    """Of the kind `src/….py`, `docs/….md`, `profiles/….yaml`; what a run makes is left out."""
    pattern = re.compile(r"`((?:src|docs|profiles|pipelines|benchmarks|tests|data)/[\w./-]+\.\w+)`")
    named = {(name, path) for name in DOCUMENTS for path in pattern.findall(documents.read(name))}
    assert {(name, path) for name, path in named if not (ROOT / path).exists()} == set()


def test_the_answer_of_a_served_version_is_the_models():
    """docs/model-registry.md posts the first evaluation picture; what comes back follows the last training."""
    (first, *_) = json.loads((ROOT / "reports/evaluate/captions.json").read_text(encoding="utf-8"))
    text = documents.read("docs/model-registry.md")
    assert f"data/eval_images/{first['file']}" in text
    assert re.findall(r'"caption": "([^"]+)"', text) == [first["sft"]["caption"]]


def test_what_a_server_says_is_shown_as_it_says_it():
    """docs/serving.md: the line at its beginning, and a line of its log for an answer and for a refusal."""
    text = documents.read("docs/serving.md")
    begun = ready_line("minivlm-sft", Path("artifacts/sft/model"), f"http://{HOST}:{PORT}", 2.0)
    answered = Visit(arrived=10.0, status=200, pictures=1, prompt_tokens=46, tokens=43, reason="stop")
    answered.begun, answered.first, answered.last = 10.001, 10.014, 10.014 + 42 / 786
    refused = Visit(status=400, refusal="invalid_image_url")
    logged = [DATE.sub("", line.strip()) for line in text.splitlines() if DATE.match(line.strip())]
    assert f"    {begun}\n" in text
    assert logged == [visit.line("POST", CHAT) for visit in (answered, refused)]


def test_waits_that_documents_name_are_those_of_the_code():
    from minivlm.tracking import courier, delivery, store, system

    answer = store.ENVIRONMENT["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    said = {
        "docs/comparing.md": (f"A sample every {system.pause(0):.0f} seconds",),
        "docs/tracking.md": (
            f"a sample every {system.pause(0):.0f} seconds",
            f"tries again after {delivery._FIRST_PAUSE:.0f} seconds",
            f"pauses that double, up to {delivery._LONGEST_PAUSE / 60:.0f} minutes",
            f"given up after {answer} seconds without an answer",
            f"a connection after {store.CONNECT_SECONDS:.0f}.",
            f"at most **{courier.PATIENCE:.0f} seconds**, and {courier.PATIENCE_STOPPED:.0f} when it was asked",
        ),
    }
    for name, sentences in said.items():
        text = " ".join(documents.read(name).split())
        assert [sentence for sentence in sentences if sentence not in text] == []


def test_the_two_commands_come_first():
    for name in READMES:
        assert documents.command_lines(name)[:2] == ["make repro", "make test"]


def test_readmes_stay_short():
    for name in READMES:
        folded = re.sub(r"<details>.*?</details>", "", documents.read(name), flags=re.DOTALL)
        assert len(folded.splitlines()) <= 220 and Path(ROOT / name).stat().st_size <= 24_000
