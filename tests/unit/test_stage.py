"""The frame of a stage: what ends in one line, and what stays a traceback."""

import pytest
import typer

from minivlm.errors import UserError
from minivlm.stage import one_line_errors


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("sft: no rows; run tokenize"), 2, "error: sft: no rows; run tokenize"),
        (NotADirectoryError(20, "Not a directory", "artifacts/sft"), 2, "error: artifacts/sft: Not a directory"),
        (PermissionError(13, "Permission denied", b"reports"), 2, "error: reports: Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_user_can_mend_is_one_line(capsys, error, code, line):
    with pytest.raises(typer.Exit) as caught, one_line_errors():
        raise error
    assert caught.value.exit_code == code
    assert capsys.readouterr().err == line + "\n"


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("of no file")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)), one_line_errors():
        raise error
