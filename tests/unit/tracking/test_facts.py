"""Where a run's figures come from: commit, dirty flag, inputs."""

import subprocess

from minivlm.files import write_json
from minivlm.tracking import facts


def test_the_dirty_flag_ignores_what_the_pipeline_writes(tmp_path):
    def git(*arguments):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    git("config", "user.email", "test@example.com")
    git("config", "user.name", "test")
    (tmp_path / "code.py").write_text("1", encoding="utf-8")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "dvc.lock").write_text("changed", encoding="utf-8")
    write_json(tmp_path / "reports" / "sft" / "metrics.json", {})
    assert facts.git_dirty(tmp_path) is False
    (tmp_path / "new.py").write_text("2", encoding="utf-8")
    assert facts.git_dirty(tmp_path) is True
    assert len(facts.git_commit(tmp_path) or "") == 40


def test_outside_git_there_is_no_commit(tmp_path):
    assert facts.git_tags(tmp_path) == {}


def test_inputs_are_hashed_by_name_and_code_as_one(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  sft:\n    cmd: x\n    deps: [src/a.py, src/b.py, artifacts/base, artifacts/gone]\n",
        encoding="utf-8",
    )
    (tmp_path / "dvc.lock").write_text(
        "stages:\n  base:\n    outs:\n    - {path: artifacts/base, hash: md5, md5: abc.dir}\n", encoding="utf-8"
    )
    for name in ("src/a.py", "src/b.py", "artifacts/base/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    tags = facts.input_tags(tmp_path, "sft")
    assert set(tags) == {"input.base", "input.code"}
    assert tags["input.base"].startswith("sha256:")
    (tmp_path / "src/b.py").write_text("changed", encoding="utf-8")
    assert facts.input_tags(tmp_path, "sft")["input.code"] != tags["input.code"]
    monkeypatch.setattr(facts, "_HASHED_BYTES", 0)
    assert facts.input_tags(tmp_path, "sft")["input.base"] == "md5:abc.dir"
