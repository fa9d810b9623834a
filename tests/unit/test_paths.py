"""Every path once; a temporary checkout reads and writes its own files but logs to the user's store."""

from pathlib import Path

from minivlm.paths import STAGES, Paths, home_root, project_root, short


def test_a_stage_name_is_its_folder(tmp_path):
    paths = Paths(tmp_path)
    for stage in STAGES:
        assert paths.artifacts(stage) == tmp_path / "artifacts" / stage
        assert paths.reports(stage) == tmp_path / "reports" / stage


def test_the_project_root_is_where_params_yaml_is():
    assert (project_root() / "params.yaml").is_file()


def test_paths_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    before = Paths().params
    monkeypatch.chdir(tmp_path)
    assert Paths().params == before and before.is_absolute()


def test_a_temporary_checkout_logs_to_the_users_own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert home_root() == tmp_path
    assert Paths().tracking == tmp_path / "mlruns"
    assert Paths().params == project_root() / "params.yaml"


def test_without_dvc_everything_is_in_the_checkout(monkeypatch):
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert home_root() == project_root()
    assert Paths(Path("elsewhere")).tracking == Path("elsewhere/mlruns")


def test_a_path_is_shown_from_where_it_lies_inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert short(tmp_path / "a" / "b") == "a/b"
    assert short(tmp_path / "a" / "b", tmp_path / "a") == "b"
    assert short(tmp_path / "b", tmp_path / "a") == str(tmp_path / "b")
    assert short(Path("models/sft")) == "models/sft"
