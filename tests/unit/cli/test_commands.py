"""docs/commands.md is what the commands say of themselves."""

from pathlib import Path

import pytest
import typer.main

from minivlm.cli.commands import MARKS, reference, written
from minivlm.cli.main import app
from minivlm.errors import UserError
from minivlm.exits import EXIT_BUG, EXIT_INTERRUPTED, EXIT_STOPPED, EXIT_USER_ERROR
from minivlm.paths import STAGES, project_root

PAGE = project_root() / "docs" / "commands.md"


def test_the_reference_is_current():
    """Else: `minivlm commands --write`."""
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, typer.main.get_command(app), project_root()) == page


def test_every_command_that_is_shown_and_every_stage_is_there():
    told = reference(typer.main.get_command(app), project_root())
    shown = [each.name for each in app.registered_commands if not each.hidden]
    headings = [line.removeprefix("### ") for line in told.splitlines() if line.startswith("### ")]
    stages = [f"python -m pipelines.{stage}" for stage in STAGES]
    assert headings == ["minivlm", *(f"minivlm {name}" for name in shown), *stages]
    assert "\x1b" not in told and "Usage: python -m pipelines.sft [OPTIONS]" in told


def test_a_page_without_its_marks_is_one_line():
    with pytest.raises(UserError, match=r"docs/commands\.md: needs one line"):
        written(MARKS[0], typer.main.get_command(app), Path())


def test_the_exit_codes_are_in_one_table():
    rows = [line.split("|")[1].strip() for line in PAGE.read_text(encoding="utf-8").splitlines() if "|" in line]
    codes = {int(code) for row in rows for code in row.split(", ") if code.isdigit()}
    assert {0, EXIT_BUG, EXIT_USER_ERROR, EXIT_STOPPED, EXIT_INTERRUPTED} <= codes
