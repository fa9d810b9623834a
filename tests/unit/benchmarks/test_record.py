"""Results are written beside what they were measured on."""

import re
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import NAMES
from benchmarks.record import RESULTS, ROOT, destination, record, table, versions
from minivlm.errors import UserError
from minivlm.files import read_json


def test_figures_are_written_with_machine_and_versions(tmp_path):
    path = record("step", {"pretrain": {"ratio": 5.5}}, repeats=3, directory=tmp_path)
    written = read_json(path)
    assert path.name == "step.json"
    assert written["pretrain"] == {"ratio": 5.5} and written["repeats"] == 3
    assert written["machine"]["cores"] >= 1 and written["machine"]["memory_bytes"] > 0
    assert written["versions"]["torch"] == torch.__version__


def test_figures_never_cover_what_they_were_measured_on(tmp_path):
    with pytest.raises(ValueError, match="machine"):
        record("step", {"machine": 1}, directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_commit_is_changed_by_tracked_files_alone_and_not_by_results(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.record.ROOT", tmp_path)
    for name in ("code.py", "dvc.lock", "reports/a.json", "benchmarks/results/step.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("committed")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (("init", "--quiet"), ("add", "."), (*author, "commit", "--quiet", "--message", "first")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    for name in ("new.py", "dvc.lock", "reports/a.json", "benchmarks/results/step.json"):
        (tmp_path / name).write_text("changed")
    assert re.fullmatch("[0-9a-f]{40}", versions()["minivlm"])
    (tmp_path / "code.py").write_text("changed")
    assert versions()["minivlm"].endswith("+changes")


def test_results_lie_in_the_repository():
    assert RESULTS.parts[-2:] == ("benchmarks", "results")


def test_a_quick_pass_never_lands_among_the_measurements(tmp_path):
    made = destination(None, quick=True)
    assert made.is_dir() and RESULTS not in (made, *made.parents)
    made.rmdir()
    with pytest.raises(UserError, match="a quick pass measures nothing"):
        destination(RESULTS, quick=True)
    assert destination(tmp_path, quick=True) == destination(tmp_path, quick=False) == tmp_path
    assert destination(None, quick=False) == RESULTS


def test_a_folder_of_results_is_made_or_refused_before_anything_is_measured(tmp_path):
    assert destination(tmp_path / "new" / "folder", quick=False).is_dir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", Path("/proc")):  # root too cannot make a file in there
        with pytest.raises(UserError, match=f"{path}: cannot hold results: .+; give another --directory"):
            destination(path, quick=False)


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_takes_its_folder_from_there(name):
    """A folder by default would be where a quick pass goes too."""
    source = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
    assert "destination(" in source and "= RESULTS" not in source


def test_a_table_shows_its_numbers(capsys):
    table([{"stage": "sft", "ratio": 12.3456, "rows": 10_000, "energy": None}], "Steps")
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("Steps", "sft", "12.35", "10,000", "–"))
