"""Nothing is unpickled that comes from outside: neither in the code, nor by a file that has code in it."""

import ast
import pickle

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from minivlm.cli.main import app
from minivlm.data import features
from minivlm.data.store import TokenStore
from minivlm.errors import UserError
from minivlm.generation.loading import load_model
from minivlm.model.checkpoint import load
from minivlm.model.towers import read_tower
from tests.contract.imports import ROOT, imported_names, source_files, syntax
from tests.unit.evaluation.toys import write_llava
from tests.unit.model.tiny import write_base
from tests.unit.training.stores import write_inputs

UNPICKLERS = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal", "jsonpickle"}


def calls(path):
    return [node for node in ast.walk(syntax(path)) if isinstance(node, ast.Call)]


def keywords(call):
    return {word.arg: ast.unparse(word.value) for word in call.keywords}


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_here_unpickles(path):
    used = {name.split(".")[0] for name in imported_names(path)} & UNPICKLERS
    text = path.read_text(encoding="utf-8")
    assert used <= {"pickle"} and text.count("pickle.") == text.count("pickle.UnpicklingError")  # its name alone
    for call in calls(path):
        name, given = ast.unparse(call.func), keywords(call)
        assert name not in ("eval", "exec", "pd.read_pickle", "pandas.read_pickle", "yaml.unsafe_load"), name
        if name == "torch.load":
            assert given.get("weights_only") == "True"
        if name in ("np.load", "numpy.load"):
            assert given.get("allow_pickle") == "False"
        if name.endswith("from_pretrained"):
            assert given.get("trust_remote_code", "False") == "False"


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def trap(tmp_path):
    return Trap(tmp_path / "sprung")


@pytest.fixture
def one_line(trap):
    """Checks a refusal: one line, and the trap is as it was."""

    def check(caught):
        assert "\n" not in str(caught.value)
        assert not trap.path.exists()

    return check


def test_a_trap_springs_where_it_is_unpickled(trap):
    pickle.loads(pickle.dumps(trap)).close()
    assert trap.path.exists()


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_checkpoint_with_code_in_it_is_refused(trap, tmp_path, write):
    path = tmp_path / "x.pth"
    write({"model.norm.weight": trap}, path)
    places = ("--vision", tmp_path, "--tokenizer", tmp_path, "--out", tmp_path / "out")
    result = CliRunner().invoke(app, [str(each) for each in ("import-checkpoint", path, *places)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {path}: ") and result.stderr.count("\n") == 1
    assert not trap.path.exists()


@pytest.mark.parametrize("reader", [load, load_model])
def test_a_model_directory_of_pickled_weights_is_not_read(trap, one_line, tmp_path, reader):
    model = write_llava(tmp_path / "model")
    (model / "model.safetensors").unlink()
    torch.save({"lm_head.weight": trap}, model / "pytorch_model.bin")
    with pytest.raises(UserError, match="no safetensors file there") as caught:
        reader(model)
    one_line(caught)


def test_of_a_brought_model_in_pytorchs_own_file_tensors_alone_are_read(trap, one_line, tmp_path):
    from safetensors.torch import load_file

    tower = write_base(tmp_path / "base") / "vision_tower"
    weights = load_file(tower / "model.safetensors")
    (tower / "model.safetensors").unlink()
    torch.save(weights, tower / "pytorch_model.bin")
    assert read_tower(tower)
    torch.save(weights | {"x": trap}, tower / "pytorch_model.bin")
    with pytest.raises(UserError) as caught:
        read_tower(tower)
    one_line(caught)


def test_an_array_of_objects_is_refused(trap, one_line, tmp_path):
    write_inputs(write_base(tmp_path / "base"), tmp_path / "copy", tmp_path / "tokens", tmp_path / "pictures")
    for name in ("offsets", "rows", "validation"):
        path = tmp_path / "tokens" / f"{name}.npy"
        before = path.read_bytes()
        np.save(path, np.array([trap], dtype=object), allow_pickle=True)
        with pytest.raises(UserError, match=f"{name}.npy: damaged store") as caught:
            TokenStore(tmp_path / "tokens")
        one_line(caught)
        path.write_bytes(before)
    assert len(TokenStore(tmp_path / "tokens"))


def test_a_feature_cache_of_objects_is_refused(trap, one_line, tmp_path):
    np.save(tmp_path / "sums.npy", np.array([trap], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="damaged feature cache") as caught:
        features._sums(tmp_path, 1)
    one_line(caught)


def test_code_beside_a_model_is_not_run(trap, one_line, tmp_path):
    from minivlm.files import read_json, write_json

    model = write_llava(tmp_path / "model")
    (model / "own.py").write_text(f"open({str(trap.path)!r}, 'w')\nclass Own: pass\n")
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        values = read_json(model / name)
        values["auto_map"] = {key: "own.Own" for key in ("AutoConfig", "AutoProcessor", "AutoTokenizer")}
        write_json(model / name, values | ({"model_type": "own"} if name == "config.json" else {}))
    with pytest.raises(UserError) as caught:
        load_model(model)
    one_line(caught)
