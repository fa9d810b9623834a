"""`minivlm chat` in a terminal: Ctrl-C ends an answer and not the chat, lines can be edited, Ctrl-D ends it."""

import os
import pty
import select
import sys
import time

import pytest

from tests.unit.evaluation.toys import picture

pytestmark = pytest.mark.slow
# An answer of 200 tokens with pauses between them, so that Ctrl-C finds it under way.
SLOW = """
import sys, time
from minivlm.generation.speed import Meter
from minivlm.generation import loading
put, load = Meter.put, loading.load_model
Meter.put = lambda meter, ids: (time.sleep(0.02), put(meter, ids))
def endless(*arguments):
    model, processor = load(*arguments)
    model.generation_config.eos_token_id = None
    return model, processor
loading.load_model = endless
from minivlm.cli.main import app
app()
"""


class Terminal:
    """A command with a terminal of its own: what is typed, and what has come since one looked."""

    def __init__(self, command, environment):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, environment)
        self.output, self.seen = b"", 0

    def until(self, text, seconds=120):
        end = time.monotonic() + seconds
        while (found := self.output.find(text.encode(), self.seen)) < 0:
            assert time.monotonic() < end, f"no {text!r} in {self.output[self.seen :].decode(errors='replace')}"
            if select.select([self.fd], [], [], 0.2)[0]:
                self.output += os.read(self.fd, 4096)
        said = self.output[self.seen : found + len(text.encode())].decode()
        self.seen = found + len(text.encode())
        return said

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        """The exit code."""
        while True:
            try:
                if not os.read(self.fd, 4096):
                    break
            except OSError:  # Linux: the other side is gone
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_ctrl_c_ends_the_answer_and_ctrl_d_the_chat(llava_directory, tmp_path, locale):
    picture(0).save(tmp_path / "图.png")
    environment = {**os.environ, "LC_ALL": locale, "TERM": "xterm"}
    options = ["--model", str(llava_directory), "--max-new-tokens", "200"]
    command = [sys.executable, "-c", SLOW, "chat", str(tmp_path / "图.png"), *options]
    terminal = Terminal(command, environment)
    terminal.until("Ctrl-D the chat.")
    terminal.until("> ")
    terminal.type("几只鸟错\x7f？\n")  # the last character is taken back
    assert "几只鸟" in terminal.until("\n")
    time.sleep(0.5)
    terminal.type("\x03")
    terminal.until("stopped")
    terminal.until("> ")
    terminal.type("\x1b[A")  # the line before comes back
    assert "几只鸟？" in terminal.until("？")
    time.sleep(0.5)  # one that comes while readline draws is heard with the next key only
    terminal.type("\x03")
    terminal.until("Ctrl-D or /quit")
    terminal.until("> ")
    terminal.type("/he\t\n")
    terminal.until("/quit")
    terminal.type("\x04")
    assert terminal.end() == 0
