"""What the profile of a run is sorted by, and a checkout that is not up to date."""

import pytest
import typer

from benchmarks import repro


def part(where):
    return next((name for name, marks in repro.PARTS.items() if repro._is(where, marks)), "else")


def test_functions_are_sorted_by_where_they_stand():
    assert part("<frozen importlib._bootstrap> _find_and_load") == "imports"
    assert part("~ <built-in method posix.stat>") == "file system"
    assert part("lib/site-packages/ruamel/yaml/scanner.py check_token") == "YAML and JSON"
    assert part("lib/site-packages/dvc_data/hashfile/hash.py file_md5") == "hashes"
    assert part("lib/site-packages/dvc/stage/__init__.py changed") == "else"


@pytest.mark.slow
def test_a_folder_without_a_pipeline_is_refused_in_a_line(tmp_path, capsys):
    with pytest.raises(typer.Exit):
        repro.main(root=tmp_path, repeats=1, quick=False, directory=tmp_path)
    assert "not an up-to-date pipeline" in capsys.readouterr().err
