"""What may be committed: no machine's paths, no weights, LF line ends, little data."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.contract.imports import ROOT

# Home and work folders of a machine; a path below them means nothing elsewhere.
MACHINE_PATH = re.compile(rb"(?<![\w.~-])/(?:work|home|root|Users)/\w")
RESULTS_OF_STAGES = {".safetensors", ".parquet", ".bin", ".pt", ".onnx", ".gguf"}


def skip_without_git() -> None:
    """An unpacked archive has nothing to check; in a checkout a git that fails is a failure."""
    if not (ROOT / ".git").exists():
        pytest.skip("unpacked without git")


def committed() -> list[Path]:
    skip_without_git()
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_path_of_one_machine():
    assert [p.relative_to(ROOT) for p in committed() if MACHINE_PATH.search(p.read_bytes())] == []


def test_no_weights_or_tables_are_committed():
    examples = ROOT / "docs" / "examples"  # for people who bring their own data: 20 rows of each layout
    found = [p for p in committed() if p.suffix in RESULTS_OF_STAGES and not p.is_relative_to(examples)]
    assert [p.relative_to(ROOT) for p in found] == []
    assert sum(p.stat().st_size for p in committed() if p.is_relative_to(examples)) <= 500_000


def test_versioned_data_stays_small():
    assert sum(p.stat().st_size for p in committed() if p.is_relative_to(ROOT / "data")) <= 2_000_000


def test_text_files_have_lf_line_ends():
    texts = [p for p in committed() if b"\0" not in p.read_bytes()[:8000]]
    assert [p.relative_to(ROOT) for p in texts if b"\r\n" in p.read_bytes()] == []
    command = ["git", "check-attr", "eol", "params.yaml", "dvc.lock"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["params.yaml:", "eol:", "lf", "dvc.lock:", "eol:", "lf"]


def test_what_machines_make_is_ignored():
    made = [".venv/x", "artifacts/x", "mlruns/x", ".state/x", "reports/index.html", "reports/sft/cost.json"]
    skip_without_git()
    told = subprocess.run(["git", "check-ignore", *made], cwd=ROOT, capture_output=True, text=True)
    assert told.stdout.split() == made


def test_dvc_tells_nobody_anything():
    config = (ROOT / ".dvc" / "config").read_text(encoding="utf-8")
    assert "analytics = false" in config and "check_update = false" in config


def test_constraints_pin_every_direct_requirement_portably():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = sum(project["optional-dependencies"].values(), project["dependencies"])
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    names = [re.sub(r"[-_.]+", "-", pin.split("==")[0].lower()) for pin in pins]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    assert {re.sub(r"[-_.]+", "-", re.split(r"[<>=\[ ]", name)[0].lower()) for name in wanted} <= set(names)
    of_cuda = [name for name in names if name.startswith(("nvidia", "triton")) and name != "nvidia-ml-py"]
    assert not of_cuda  # torch's CUDA build brings its own
    assert [pin.lower() for pin in pins] == sorted(pin.lower() for pin in pins)
