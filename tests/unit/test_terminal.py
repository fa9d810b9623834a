"""Chinese under any locale, and what a stream can show."""

import io
import os
import subprocess
import sys

import pytest

from minivlm.terminal import colours, escaped, rewrites

# As bare as a locale gets: Python then takes ASCII, and reads arguments byte by byte.
BARE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SAY = """
import sys
from minivlm.terminal import prepare_streams
prepare_streams()
print("\\u6c49\\u8bed", sys.argv[1], "\\ud800")
print(sys.stdin.read(), file=sys.stderr)
"""


def say(**environment: str) -> tuple[bytes, bytes]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    done = subprocess.run(
        [sys.executable, "-c", SAY, "路径"], env=own | environment, input="问题".encode(), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


@pytest.mark.parametrize("environment", [BARE, {"LC_ALL": "C.UTF-8"}, {**BARE, "PYTHONIOENCODING": "latin-1"}])
def test_chinese_goes_in_and_out_under_any_locale(environment):
    assert say(**environment) == ("汉语 路径 \\ud800".encode(), "问题".encode())


def test_a_chinese_encoding_that_was_chosen_stays():
    assert say(LC_ALL="C.UTF-8", PYTHONIOENCODING="gb18030")[0].startswith("汉语 路径".encode("gb18030"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("图 一\u3000.png", "图 一\u3000.png"),
        ("a\tb\n\x1b[2J\x9b2J", "a\\tb\\n\\x1b[2J\\x9b2J"),
        ("\udce5\udc9b\udcbe", "图"),  # as Python reads it under a C locale
        ("caf\udce9 \udc9b2J", "caf\\xe9 \\x9b2J"),  # bytes that are no text, one of them a control
        ("gpj.\u202e", "gpj.\\u202e"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_foreign_name_is_shown_without_what_a_terminal_obeys(name, shown):
    assert escaped(name) == shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "coloured", "rewritten"),
    [
        ({"TERM": "xterm"}, None, True),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, True),
        ({"TERM": "xterm", "FORCE_COLOR": "1"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1", "FORCE_COLOR": "1"}, False, True),
        ({"TERM": "xterm", "CI": "true"}, None, False),
    ],
)
def test_the_environment_says_what_a_terminal_shows(monkeypatch, environment, coloured, rewritten):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (colours(), rewrites(Terminal()), rewrites(io.StringIO())) == (coloured, rewritten, False)
