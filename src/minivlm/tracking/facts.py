"""What a run records about where its figures come from: code, inputs, machine, versions."""

import hashlib
import json
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from minivlm import hardware
from minivlm.files import sha256_file, sha256_tree

_PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "numpy", "pyarrow", "pillow", "dvc", "mlflow")
# Written by the pipeline itself: running it must not make its own commit look changed.
_GENERATED = (":(exclude)dvc.lock", ":(exclude)reports")
_HASHED_BYTES = 2**30  # an input up to this size is hashed (about 1 s); a larger one is left to DVC
_PIECE = 2**16  # bytes


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots: {"a": {"b": 1}} → {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _git(root: Path, *arguments: str) -> str | None:
    try:
        output = subprocess.check_output(["git", *arguments], cwd=root, stderr=subprocess.DEVNULL, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return output.decode().strip()


def git_commit(root: Path) -> str | None:
    """The commit checked out at `root`; None outside git."""
    return _git(root, "rev-parse", "HEAD")


def git_dirty(root: Path) -> bool | None:
    """Whether tracked or new files differ from the commit, dvc.lock and reports/ aside; None outside git."""
    changed = _git(root, "status", "--porcelain", "--", ".", *_GENERATED)
    return None if changed is None else bool(changed)


def git_tags(root: Path) -> dict[str, str]:
    """`git.commit` and `git.dirty`, and the tag that MLflow shows the commit from."""
    commit, dirty = git_commit(root), git_dirty(root)
    if commit is None:
        return {}
    return {"git.commit": commit, "git.dirty": str(dirty).lower(), "mlflow.source.git.commit": commit}


def hardware_tags(device: str) -> dict[str, str]:
    """`hardware.*`: device, CPU, cores and memory in GiB."""
    tags = {
        "hardware.device": hardware.device_name(device),
        "hardware.cpu": hardware.cpu_model(),
        "hardware.cores": str(hardware.cores()),
    }
    memory = hardware.memory_bytes()
    return tags if memory is None else tags | {"hardware.memory_gib": f"{memory / 2**30:.1f}"}


def version_tags() -> dict[str, str]:
    """`version.<package>` of the packages that results depend on."""
    tags = {}
    for package in _PACKAGES:
        try:
            tags[f"version.{package}"] = version(package)
        except PackageNotFoundError:
            continue
    return tags


def _read_yaml(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(path) or {}
    except (OSError, YAMLError):
        return {}


def _locked_outputs(root: Path) -> dict[str, str]:
    """Path → `md5:<hash>` of every output in dvc.lock; a directory's hash ends in `.dir`, as in DVC."""
    stages = _read_yaml(root / "dvc.lock").get("stages", {})
    return {
        out["path"]: f"{out.get('hash', 'md5')}:{out[out.get('hash', 'md5')]}"
        for stage in stages.values()
        for out in stage.get("outs", ())
        if out.get(out.get("hash", "md5"))
    }


def content_digest(path: Path) -> str:
    """`sha256:<hash>` of a file's content or of a directory's names and contents.

    Of more than a GiB, `sampled-sha256:<hash>` of the names, the sizes and 17 pieces of each file: reading all of
    it would cost minutes, at the start of a stage that DVC has just hashed it for.
    """
    if _bytes(path) <= _HASHED_BYTES:
        return f"sha256:{sha256_tree(path)}"
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path).as_posix()}\0{size}\0".encode())
        with file.open("rb") as stream:
            for piece in range(17):
                stream.seek(max(0, size - _PIECE) * piece // 16)
                digest.update(stream.read(_PIECE))
    return f"sampled-sha256:{digest.hexdigest()}"


def made_from(root: Path, values: dict[str, Any]) -> dict[str, str]:
    """What a reproduction is made from, to be compared with another: parameters by their names, code and data."""
    digests = {"code": "".join(_source_hash(root / name) for name in ("src", "pipelines"))}
    if (data := root / "data").is_dir():
        digests["data"] = sha256_tree(data)
    return {key: as_text(value) for key, value in flatten(values).items()} | digests


def as_text(value: Any) -> str:
    """A parameter's value as MLflow keeps it: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def input_tags(root: Path, stage: str) -> dict[str, str]:
    """`input.<name>` for each dependency of the stage in dvc.yaml: what it was made from.

    Files are hashed with sha256; what is too large for that takes its hash from dvc.lock, where DVC has just
    checked it, or none. All source files make one tag, `input.code`. Without a dvc.yaml there are none.
    """
    declared = _read_yaml(root / "dvc.yaml").get("stages", {}).get(stage, {})
    dependencies = [d if isinstance(d, str) else next(iter(d)) for d in declared.get("deps", ())]
    locked = _locked_outputs(root)
    code, tags = hashlib.sha256(), {}
    for dependency in sorted(dependencies):
        path = root / dependency
        if not path.exists():
            continue
        if path.suffix == ".py" or dependency.startswith(("src/", "pipelines/")):
            code.update(f"{dependency}\0{_source_hash(path)}\n".encode())
            tags["input.code"] = f"sha256:{code.hexdigest()}"
        elif _bytes(path) <= _HASHED_BYTES:
            tags[_input_name(dependency)] = f"sha256:{sha256_tree(path)}"
        elif dependency in locked:
            tags[_input_name(dependency)] = locked[dependency]
    return tags


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def _source_hash(path: Path) -> str:
    if path.is_file():
        return sha256_file(path)
    return hashlib.sha256("".join(sha256_file(p) for p in sorted(path.rglob("*.py"))).encode()).hexdigest()


def _input_name(dependency: str) -> str:
    return f"input.{dependency.removeprefix('artifacts/')}"
