"""What a saved state is bound to: each part of the key, and of the names of the folders that stages take."""

import shutil
from importlib import metadata

import pytest

from minivlm.config import Base, Prices, load_params
from minivlm.paths import Paths, project_root
from minivlm.stage import StageRun
from minivlm.tracking import NullRun
from minivlm.training import resume_key as module
from minivlm.training.places import Machine, Places
from minivlm.training.resume_key import DECIDES_NOTHING, resume_key
from minivlm.training.vision_language import train_vision_language
from pipelines.base import run as run_base
from tests.contract.imports import direct_imports, modules, source_deps
from tests.unit.data.toys import captions, write_source
from tests.unit.training.stores import write_inputs
from tests.unit.training.test_base import SECTION


@pytest.mark.parametrize("changed", ["torch", "transformers", "accelerate", "tokenizers", "pillow", "numpy"])
def test_another_version_of_what_computes_has_another_key(tmp_path, monkeypatch, changed):
    key, installed = resume_key({}, [tmp_path]), metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.1" if name == changed else installed(name))
    assert key != resume_key({}, [tmp_path])


@pytest.mark.parametrize(
    ("file", "decides"),
    [
        *((f"{package}/steps.py", True) for package in ("data", "data/formats", "model", "training", "config")),
        *((f"{name}.py", True) for name in ("token_ids", "device", "parallel")),  # beside the packages
        *((f"{package}/steps.py", False) for package in DECIDES_NOTHING),
        ("../pipelines/base.py", True),
    ],
)
def test_code_that_decides_is_in_the_key_and_other_code_is_not(tmp_path, monkeypatch, file, decides):
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "minivlm")
    monkeypatch.setattr(module, "COMMANDS", tmp_path / "pipelines")
    keys = []
    for text in ("LAYERS = 1", "LAYERS = 2"):
        path = tmp_path / "minivlm" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        keys.append(resume_key({}, []))
    assert (keys[0] != keys[1]) is decides


def test_the_key_is_that_of_this_code():
    assert (module.PACKAGE / "training" / "loop.py").is_file() and (module.COMMANDS / "base.py").is_file()


@pytest.mark.parametrize("package", DECIDES_NOTHING)
def test_nothing_that_trains_imports_what_the_key_leaves_out(package):
    """But for the tracker, which a stage command is told by and a training only tells."""
    name = f"minivlm.{package}"
    assert name in modules()
    training = ("minivlm.config", "minivlm.data", "minivlm.model", "minivlm.training")
    for path in (path for each, path in modules().items() if each.startswith(training)):
        assert [other for other in direct_imports(path) if other.startswith(name)] == [], path
    if package != "tracking":
        deps = [dep for stage in ("base", "pretrain", "sft") for dep in source_deps(stage)]
        assert [dep for dep in deps if dep.startswith(f"src/minivlm/{package}/")] == []


class EnoughError(Exception):
    """The key is known."""


@pytest.fixture(scope="module")
def root(base, tmp_path_factory):
    """What pretrain and sft read."""
    root = tmp_path_factory.mktemp("inputs")
    write_inputs(base, root / "base", root / "tokens", root / "pictures")
    (root / "start").mkdir()
    (root / "start" / "model.safetensors").write_bytes(b"weights")
    return root


OPTIMIZATION = dict(
    learning_rate=1e-2, min_learning_rate_ratio=0.1, warmup_ratio=0.1, weight_decay=0.01, max_grad_norm=1.0,
    precision="auto", validations=2, log_steps=3,
)  # fmt: skip
PLAN = dict(seed=4, freeze="projector", epochs=2.0, batch_tokens=128, accumulation=2, compile=False)


def key_of_stage(root, out, monkeypatch, *, threads=1, features=None, **changed):
    """The name of the folder in which the stage keeps its states."""

    def enough(*arguments):
        raise EnoughError

    monkeypatch.setattr("minivlm.data.store.TokenStore", enough)
    inputs = {name: root / name for name in ("base", "start", "tokens", "pictures")}
    places = Places(
        **inputs, artifacts=out / "artifacts", reports=out / "reports", state=out / "state", features=features
    )
    machine = Machine("cpu", threads, 0, Prices(currency="CNY", cpu_hour=1.0, gpu_hour={}))
    with pytest.raises(EnoughError):
        train_vision_language(
            "sft", places=places, machine=machine, tracker=NullRun(), **{**OPTIMIZATION, **PLAN, **changed}
        )
    [folder] = (out / "state").iterdir()
    shutil.rmtree(out / "state")
    return folder.name


@pytest.mark.parametrize("name", [*OPTIMIZATION, *PLAN, "threads"])
def test_a_stage_with_another_value_has_another_key(root, tmp_path, monkeypatch, name):
    others = {"freeze": "llm", "compile": True, "precision": "fp32", "threads": 2}
    other = others.get(name) or 2 * {**OPTIMIZATION, **PLAN}[name]
    key = key_of_stage(root, tmp_path, monkeypatch)
    assert key == key_of_stage(root, tmp_path, monkeypatch)
    assert key != key_of_stage(root, tmp_path, monkeypatch, **{name: other})


@pytest.mark.parametrize(
    "file", ["base/layout.json", "start/model.safetensors", "tokens/tokens.bin", "pictures/hashes.npy"]
)
def test_a_stage_with_another_input_has_another_key(root, tmp_path, monkeypatch, file):
    key = key_of_stage(root, tmp_path, monkeypatch)
    changed = shutil.copytree(root, tmp_path / "changed")
    with (changed / file).open("ab") as stream:
        stream.write(b" ")
    assert key != key_of_stage(changed, tmp_path, monkeypatch)


def test_a_stage_on_kept_features_has_another_key(root, tmp_path, monkeypatch):
    """They are computed in other groups of pictures."""
    key = key_of_stage(root, tmp_path, monkeypatch)
    assert key != key_of_stage(root, tmp_path, monkeypatch, features=tmp_path / "features")


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("minivlm.hardware.device_name", "another"),
        ("minivlm.training.vision_language.resolve_precision", "of another machine"),
    ],
)
def test_a_stage_on_another_device_has_another_key(root, tmp_path, monkeypatch, what, other):
    key = key_of_stage(root, tmp_path, monkeypatch)
    monkeypatch.setattr(what, lambda *arguments: other)
    assert key != key_of_stage(root, tmp_path, monkeypatch)


@pytest.fixture
def checkout(tmp_path):
    """A checkout in which download and validate have run."""
    write_source(tmp_path, "pretrain", captions(20))
    write_source(tmp_path, "sft", captions(10, first=20))
    return tmp_path


def key_of_base(root, monkeypatch, **changed):
    found = []

    def train_base(*arguments, keep, **options):
        found.append(keep.folder.relative_to(root / ".state" / "base").parts[0])
        raise EnoughError

    monkeypatch.setattr("minivlm.training.base.train_base", train_base)
    params = load_params(project_root() / "params.yaml")
    params = params.model_copy(update={"threads": 1, "base": SECTION} | changed)
    with pytest.raises(EnoughError):
        run_base(StageRun("base", params, Paths(root), NullRun()))
    return found[0]


@pytest.mark.parametrize("name", ["seed", "threads", "base", "device", "download", "validate"])
def test_base_with_anything_else_has_another_key(checkout, monkeypatch, name):
    key = key_of_base(checkout, monkeypatch)
    assert key == key_of_base(checkout, monkeypatch)
    changed = {}
    if name in ("download", "validate"):
        (checkout / "artifacts" / name / "more").write_text("more")
    elif name == "device":
        monkeypatch.setattr("minivlm.hardware.device_name", lambda device: "another")
    else:
        values = SECTION.model_dump(exclude_none=True) | {"validation_fraction": 0.3}
        changed[name] = {"seed": 99, "threads": 2, "base": Base.model_validate(values)}[name]
    assert key != key_of_base(checkout, monkeypatch, **changed)
