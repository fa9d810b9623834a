"""How trainings show themselves: lines now and then in a log, one set of bars on a terminal."""

import io
import re
from contextlib import redirect_stderr

import pytest

from minivlm.training import progress
from minivlm.training.progress import Shown, TrainingProgress, bars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


def last_lines(terminal: Terminal) -> list[str]:
    """What stands on the screen in the end: of each bar its last state, without colours."""
    text = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", terminal.getvalue())
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return list({line.split(" \u2501")[0]: line for line in lines}.values())


def test_a_log_gets_a_line_every_ten_seconds_and_the_end(capsys, clock):
    with TrainingProgress("sft", 100, 3.6, "CNY") as shown:
        for step in range(1, 101):
            clock[0] += 0.25
            shown.step(step, 2.0, 8 * step)
    assert capsys.readouterr().out.splitlines() == [
        "sft: step 40/100, loss 2.0000, 32.0 samples/s, 0:15 left, 0.0100 CNY",
        "sft: step 80/100, loss 2.0000, 32.0 samples/s, 0:05 left, 0.0200 CNY",
        "sft: step 100/100, loss 2.0000, 32.0 samples/s, 0:25 in all, 0.0250 CNY",
    ]


def test_another_process_of_the_same_training_is_silent(capsys, clock):
    with TrainingProgress("sft", 1, None, silent=True) as shown:
        shown.step(1, 2.0, 8)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_one_bar_that_is_rewritten(terminal, capsys):
    with redirect_stderr(terminal), TrainingProgress("sft", 3, None) as shown:
        for step in (1, 2, 3):
            shown.step(step, 2.0, 8 * step)
    (line,) = last_lines(terminal)
    assert re.fullmatch(r"sft \u2501+ 3/3 loss 2\.00, \d+ rows/s, \d:\d\d in all", line)
    assert terminal.getvalue().count("\n") == 1
    assert capsys.readouterr().out == ""


def test_two_trainings_share_the_terminal_and_fit_80_columns(terminal):
    with redirect_stderr(terminal), bars() as show:
        show(Shown("base: language model", 5, 288, "loss 1.31, 1564 rows/s, 10:08 left, 0.0005 CNY"))
        with TrainingProgress("base: vision tower", 36, 0.2, "CNY") as shown:
            shown.step(36, 55.81, 400)
        show(Shown("base: language model", 288, 288, "loss 1.31, 1564 rows/s, 10:08 in all, 0.0005 CNY"))
    lines = last_lines(terminal)
    assert sorted(line.split(" \u2501")[0].strip() for line in lines) == [
        "base: language model",
        "base: vision tower",
    ]
    assert all(" 288/288 " in line or " 36/36 " in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_where_lines_cannot_be_rewritten_bars_show_nothing(capsys):
    with bars() as show:
        show(Shown("sft", 1, 2, ""))
    assert capsys.readouterr() == ("", "")
