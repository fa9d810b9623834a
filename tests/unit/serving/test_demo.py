"""The page's settings: silent, closed, and what it shows as HTML escaped."""

import os
import re
import subprocess
import sys

import pytest

from minivlm.errors import UserError
from minivlm.ports import HOST, free_port
from minivlm.serving import demo
from minivlm.serving.demo_answers import Answers, Choice


def test_without_gradio_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r'pip install "minivlm\[demo\]"'):
        demo.import_gradio()


def test_what_is_said_is_no_html():
    assert "<b>" not in demo.status(wrong="<b>x</b>") and "<b>" not in demo.status("<b>")


def test_turns_are_shown_in_order_and_an_answer_to_come_is_left_out():
    assert [each["content"] for each in demo.shown([("a", "b"), ("c", "")])] == ["a", "b", "c"]


class Page:
    """A page that is opened on a port unless another has just taken it."""

    def __init__(self, taken=(), says="Cannot find empty port in range: 1-1."):
        self.taken, self.says, self.opened = list(taken), says, []

    def launch(self, **options):
        if options["server_port"] in self.taken:
            raise OSError(self.says)
        self.opened.append(options)


def test_the_page_is_opened_to_this_machine_alone_and_takes_no_large_file(monkeypatch):
    monkeypatch.setattr(demo, "theme", lambda: None)
    page = Page()
    port = demo.launch(page, HOST, 17_960)
    (options,) = page.opened
    assert (options["server_name"], options["server_port"]) == (HOST, port)
    assert options["share"] is False and options["max_file_size"] == demo.UPLOAD_BYTES == 20 << 20
    assert not (options["enable_monitoring"] or options["mcp_server"] or options["ssr_mode"] or options["pwa"])


def test_a_port_that_was_taken_meanwhile_is_passed_over(monkeypatch):
    monkeypatch.setattr(demo, "theme", lambda: None)
    first = free_port(17_960)
    assert demo.launch(Page([first]), HOST, first) > first
    with pytest.raises(OSError, match="Read-only"):
        demo.launch(Page([first], "Read-only file system"), HOST, first)


@pytest.mark.slow
def test_what_was_uploaded_is_removed_when_the_demo_is_ended(llava_directory, tmp_path):
    command = [
        sys.executable,
        "-m",
        "minivlm.cli.main",
        "demo",
        "--port",
        "17960",
        "--model",
        str(llava_directory),
    ]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **streams) as process:
        assert re.match(r"demo: http://127.0.0.1:\d+ ", process.stdout.readline())
        assert list(tmp_path.glob("minivlm-demo-*"))
        process.terminate()
        said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, ("", ""))
    assert not list(tmp_path.glob("minivlm-demo-*"))


@pytest.mark.slow
def test_the_page_is_silent_and_names_no_endpoint(llava_directory, tmp_path):
    demo.import_gradio()
    choices = [Choice("sft", llava_directory, "?")]
    page = demo.build_page(Answers(choices, "cpu"), choices, [], max_new_tokens=4)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False" and page.analytics_enabled is False
    assert page.get_api_info() == {"named_endpoints": {}, "unnamed_endpoints": {}}
    (asking,) = [each for each in page.fns.values() if each.name == "ask"]
    assert asking.concurrency_limit == 1
    fonts = demo.theme()
    assert fonts._stylesheets == [] and "url(" not in "".join(fonts._font_css) and "url(" not in demo.CSS
