"""The demo as a person uses it, by clicking, in headless Chromium; nothing but 127.0.0.1 is asked."""

import shutil
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from minivlm.generation.captions import caption_pictures
from minivlm.generation.loading import load_model
from minivlm.paths import Paths
from tests.unit.evaluation.toys import picture, write_llava

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
SFT, PRETRAIN = "请详细描述这张图片。", "请用一句话描述这张图片。"
MOST = 24
EXAMPLE = 3
SLOWLY = "慢慢说"  # a question that is answered without an end, and slowly, so that there is something to stop
SERVE = """
import sys, threading, time
from pathlib import Path
from minivlm.serving.demo import Example, serve
from minivlm.serving.demo_answers import Choice
from minivlm.generation.conversation import Conversation
from minivlm.generation.speed import Meter
ask, put = Conversation.ask, Meter.put
def asked(conversation, question, **options):
    slowly = question == {slowly!r}
    conversation._model.generation_config.eos_token_id = None if slowly else 2
    Meter.put = (lambda meter, ids: (time.sleep(0.5), put(meter, ids))) if slowly else put
    return ask(conversation, question, **options)
Conversation.ask = asked
port, sft, pretrain, *pictures = sys.argv[1:]
choices = [Choice("微调后 sft", Path(sft), {sft!r}), Choice("预训练后 pretrain", Path(pretrain), {pretrain!r})]
serve(choices, [Example(Path(each), Path(each).stem) for each in pictures], host="127.0.0.1", port=int(port),
      device="cpu", max_new_tokens={most}, ready=lambda address: print(address, flush=True),
      wait=threading.Event().wait)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models that say different things."""
    folder = tmp_path_factory.mktemp("models")
    return {name: write_llava(folder / name, seed=seed) for seed, name in enumerate(("sft", "pretrain"))}


@pytest.fixture(scope="module")
def pictures():
    return sorted((Paths().data / "eval_images").glob("*.jpg"))


@pytest.fixture(scope="module")
def address(models, pictures):
    """The demo's, in a process of its own, as `minivlm demo` starts it."""
    from minivlm.ports import free_port

    code = SERVE.format(sft=SFT, pretrain=PRETRAIN, most=MOST, slowly=SLOWLY)
    arguments = [free_port(17_860), models["sft"], models["pretrain"], *pictures]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    try:
        said = process.stdout.readline().strip()
        assert said.startswith("http://127.0.0.1:")
        yield said
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def page(address):
    from playwright.sync_api import sync_playwright

    if not CHROMIUM:
        pytest.skip("no Chromium here")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on(
            "response", lambda response: response.status >= 400 and page.asked.append(f"failed:{response.url}")
        )
        page.goto(address)
        page.wait_for_selector("#examples img")
        yield page
        browser.close()


def caption(directory, path, question):
    from minivlm.generation.opening import read_picture

    shown = [read_picture(path)]
    (said,) = caption_pictures(*load_model(directory), shown, question, batch_size=1, max_new_tokens=MOST)
    return said


def pick(page, example=0):
    """Press the small picture of an example."""
    page.locator("#examples button.thumbnail-item").nth(example).click()
    page.wait_for_selector("#picture img")


def ask_slowly(page):
    """Ask of an example what is answered without an end, and wait until that can be stopped."""
    pick(page)
    page.locator("#question textarea").fill(SLOWLY)
    page.locator("#ask").click()
    page.locator("#stop:not([disabled])").wait_for()


def ask(page, turns=1):
    """Press the button and wait for the end of the answer; the texts of the conversation."""
    page.locator("#ask").click()
    page.wait_for_function(
        "turns => document.querySelectorAll('#chat .message.bot').length == turns"
        " && document.querySelector('#status').innerText.includes('first token')"
        " && !document.querySelector('#ask').disabled",
        arg=turns,
    )
    return [" ".join(each.split()) for each in page.locator("#chat .message").all_inner_texts()]


def same(shown, said):
    """As the page has it: without the white space that HTML folds."""
    return "".join(shown.split()) == "".join(said.split())


def test_an_example_is_picked_and_each_stage_says_its_caption(page, models, pictures):
    pick(page, EXAMPLE)
    texts = ask(page)
    assert any(same(each, caption(models["sft"], pictures[EXAMPLE], SFT)) for each in texts), texts
    page.locator("#model label").nth(1).click()
    page.wait_for_function(f"document.querySelector('#question textarea').value == '{PRETRAIN}'")
    texts = ask(page)
    assert any(same(each, caption(models["pretrain"], pictures[EXAMPLE], PRETRAIN)) for each in texts), texts
    assert {urlsplit(url).hostname for url in page.asked if url.startswith("http")} == {"127.0.0.1"}
    assert not [url for url in page.asked if url.startswith("failed:")]


def test_nothing_covers_the_picture(page):
    pick(page)
    top = page.locator("#picture img").bounding_box()["y"]
    for name in ("label", "button[title='Remove Image']"):
        box = page.locator(f"#picture {name}").bounding_box()
        assert page.locator("#picture").bounding_box()["y"] <= box["y"] and box["y"] + box["height"] <= top, name


def test_a_question_of_ones_own_is_the_next_turn(page):
    pick(page)
    ask(page)
    page.locator("#question textarea").fill("天气怎么样？")
    texts = ask(page, turns=2)
    assert any("天气怎么样？" in each for each in texts)
    page.locator("#anew").click()
    page.wait_for_function("document.querySelectorAll('#chat .message.bot').length == 0")


def test_stop_ends_an_answer_and_keeps_the_conversation(page):
    ask_slowly(page)
    page.locator("#stop").click()
    page.wait_for_function("document.querySelector('#status').innerText.includes('已停止')")
    assert f" {MOST} tokens" not in page.locator("#status").inner_text()
    page.locator("#question textarea").fill(SFT)
    page.locator("#ask").click()
    page.wait_for_function(
        "document.querySelector('#status').innerText.includes('first token')"
        " && !document.querySelector('#status').innerText.includes('已停止')"
    )


@pytest.mark.parametrize(
    "change", ["#anew", f"#examples button.thumbnail-item >> nth={EXAMPLE}", "#model label >> nth=1"]
)
def test_an_answer_to_a_conversation_that_was_thrown_away_is_not_shown(page, change):
    ask_slowly(page)
    page.wait_for_function("document.querySelectorAll('#chat .message').length == 2")
    page.locator(change).click()
    page.wait_for_function("document.querySelectorAll('#chat .message').length == 0")
    page.locator("#ask:not([disabled])").wait_for()
    page.wait_for_timeout(1000)  # two tokens of the slow answer
    assert page.locator("#chat .message").count() == 0
    texts = ask(page)
    assert not any(SLOWLY in each for each in texts), texts


def test_a_broken_upload_is_said_in_words(page, tmp_path, pictures):
    broken = {"broken.jpg": pictures[0].read_bytes()[:3000], "text.png": b"not a picture"}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        page.locator("#picture input[type=file]").first.set_input_files(str(tmp_path / name))
        page.wait_for_selector("#status .wrong")
        assert "无法读取这张图片" in page.locator("#status").inner_text()
        page.locator("#picture .icon-button-wrapper button").first.click()
        page.wait_for_function("!document.querySelector('#status .wrong')")
    picture(5).save(tmp_path / "sound.png")
    page.locator("#picture input[type=file]").first.set_input_files(str(tmp_path / "sound.png"))
    page.wait_for_selector("#picture img")
    assert ask(page)


def test_without_a_picture_the_page_asks_for_one(page):
    page.locator("#ask").click()
    page.wait_for_selector("#status .wrong")
    assert "请先选择一张图片" in page.locator("#status").inner_text()
