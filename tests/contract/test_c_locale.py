"""Commands and stages write Chinese under the barest of locales, in which Python takes ASCII for everything."""

import os
import subprocess
import sys

import pytest

from tests.contract.imports import ROOT

BARE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
MINIVLM = ("-m", "minivlm.cli.main")


def said(*command: str) -> str:
    """What a command writes to both streams, as UTF-8."""
    foreign = ("LC_", "LANG", "PYTHONIOENCODING")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=own | BARE, capture_output=True)
    assert b"Traceback" not in done.stderr and b"unexpected" not in done.stderr, done.stderr.decode()
    return (done.stdout + done.stderr).decode("utf-8", "strict")


@pytest.mark.parametrize(
    ("command", "chinese"),
    [
        ((*MINIVLM, "params", "evaluate.question_sft"), "片。"),
        (("-m", "pipelines.evaluate", "--dry-run"), "片。"),
        ((*MINIVLM, "check-data", "数据/行.jsonl"), "error: 数据/行.jsonl: not found"),
        ((*MINIVLM, "profile", "简介"), "error: no profile '简介'"),
        ((*MINIVLM, "params", "参数"), "error: no parameter '参数'"),
        ((*MINIVLM, "estimate", "--profile", "简介"), "error: no profile '简介'"),
        ((*MINIVLM, "export", "模型", "--format", "minimind"), "error: 模型: no model there"),
        ((*MINIVLM, "caption", "图片.jpg", "--model", "模型"), "error: 模型: no model there"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value[-1] if value[-1].isascii() else value[2],
)
def test_chinese_is_written_whole(command, chinese):
    assert chinese in said(*command)
