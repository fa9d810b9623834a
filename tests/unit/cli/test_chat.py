"""`minivlm chat`, with its questions piped in; test_chat_terminal.py has a terminal."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from minivlm.cli.chat_loop import COMMANDS, _completions, _named
from minivlm.cli.main import app
from minivlm.errors import UserError
from minivlm.generation.captions import caption_pictures
from tests.unit.evaluation.toys import picture

QUESTION = "请详细描述这张图片。"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    path = tmp_path_factory.mktemp("图") / "一 只.png"
    picture(0).save(path)
    return path


def chat(directory, lines, *arguments):
    command = ["chat", "--model", str(directory), "--max-new-tokens", "6", *map(str, arguments)]
    result = CliRunner().invoke(app, command, input=lines)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_piped_question_gets_the_caption_on_a_line(llava, llava_directory, shown):
    from minivlm.generation.streaming import visible

    result = chat(llava_directory, f"{QUESTION}\n", shown)
    (caption,) = caption_pictures(*llava, [picture(0)], QUESTION, batch_size=1, max_new_tokens=6)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == visible(caption) + "\n"


def test_each_line_is_answered_and_the_end_of_input_ends_it_well(llava_directory, shown):
    result = chat(llava_directory, f"{QUESTION}\n\n  \n{QUESTION}", shown, "--speed")
    assert result.exit_code == 0
    assert result.stderr.count("first token") == 2 and result.stdout.endswith("\n")
    assert chat(llava_directory, "").exit_code == 0


def test_image_begins_anew_and_quit_ends(llava_directory, shown):
    once = chat(llava_directory, f"{QUESTION}\n", shown).stdout
    lines = f"/image '{shown}'\n{QUESTION}\n/image {shown}\n{QUESTION}\n/reset\n{QUESTION}\n/quit\n{QUESTION}\n"
    result = chat(llava_directory, lines)
    assert (result.exit_code, result.stdout) == (0, once * 3)


def test_help_lists_every_command(llava_directory):
    result = chat(llava_directory, "/help\n")
    assert all(name in result.stderr for name in COMMANDS) and result.stdout == ""


def test_what_is_wrong_is_one_line_and_the_chat_goes_on(llava_directory, shown):
    lines = ["/foo", "/image", "/image no.png", f"/image {shown.parent}", "长" * 300, "/tmp/x.png", QUESTION]
    result = chat(llava_directory, "\n".join(lines), shown)
    assert result.exit_code == 2 and len(result.stdout.splitlines()) >= 1
    errors = result.stderr.splitlines()
    assert len(errors) == 6 and all(line.startswith("error: ") for line in errors)
    assert "no command '/foo'; /help lists them" in errors[0] and "/image PATH" in errors[1]
    assert "no.png: not found" in errors[2] and "256 positions" in errors[4] and "/image PATH" in errors[5]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.png"], "gone.png: not found"),
        (["--temperature", "-1"], "temperature -1"),
        (["--temperature", "1", "--top-p", "2"], "top_p 2"),
        (["--model", "gone"], "gone: no model there"),
    ],
)
def test_what_cannot_begin_is_told_in_one_line(llava_directory, arguments, said):
    result = chat(llava_directory, QUESTION, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr and result.stderr.count("\n") == 1


def test_the_same_seed_says_the_same(llava_directory, shown):
    said = [chat(llava_directory, QUESTION, shown, "--temperature", "2", "--seed", n).stdout for n in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_chinese_goes_in_and_comes_out_under_a_c_locale(llava_directory, shown):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "minivlm.cli.main", "chat", str(shown), "--model", str(llava_directory)]
    command += ["--max-new-tokens", "6"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, input=QUESTION.encode())
    assert done.stdout.decode("utf-8") == chat(llava_directory, QUESTION, shown).stdout


def test_tab_completes_commands_and_paths(tmp_path):
    (tmp_path / "a b.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    assert _completions("/", "/") == list(COMMANDS) and _completions("/re", "/re") == ["/reset"]
    assert _completions(f"/image {tmp_path}/f", f"{tmp_path}/f") == [f"{tmp_path}/folder/"]
    assert _completions("看", "看") == [] and _completions(f"看 {tmp_path}/f", f"{tmp_path}/f") == []


def test_paths_are_taken_as_people_write_them():
    assert str(_named(" 'a b.png' ")) == "a b.png" and str(_named("a b.png")) == "a b.png"
    assert str(_named("~/x.png")) == os.path.expanduser("~/x.png")
    with pytest.raises(UserError, match="which picture"):
        _named("  ")
