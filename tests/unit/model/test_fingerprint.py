"""The stored text loss tells other weights from the saved ones."""

import re
import shutil
from contextlib import nullcontext

import pytest
import torch
from transformers import LlamaForCausalLM

from minivlm.errors import UserError
from minivlm.files import read_json, write_json
from minivlm.model.checkpoint import save
from minivlm.model.fingerprint import check_files, check_fingerprint, saved_files, text_loss, write_fingerprint
from minivlm.model.llava import assemble


@pytest.fixture
def llm(base):
    return LlamaForCausalLM.from_pretrained(base / "llm")


def test_a_language_model_and_the_llava_around_it_share_the_fingerprint(base, llm, tmp_path):
    loss = write_fingerprint(llm, tmp_path, seed=1)
    assert check_fingerprint(llm, tmp_path) == pytest.approx(loss, abs=1e-6)
    assert check_fingerprint(assemble(base, seed=9), tmp_path) == pytest.approx(loss, abs=1e-6)


def test_the_loss_is_transformers_own(llm, tmp_path):
    write_fingerprint(llm, tmp_path, seed=1)
    ids = torch.tensor(read_json(tmp_path / "fingerprint.json")["ids"])
    assert text_loss(llm, ids) == pytest.approx(float(llm(input_ids=ids, labels=ids).loss.detach()), rel=1e-6)


def test_one_other_weight_is_refused(llm, tmp_path):
    write_fingerprint(llm, tmp_path, seed=1)
    with torch.no_grad():
        llm.model.layers[1].mlp.down_proj.weight[3, 5] += 0.2
    with pytest.raises(UserError, match="not the same weights"):
        check_fingerprint(llm, tmp_path)


def test_a_loss_that_is_not_a_number_is_refused(llm, tmp_path):
    write_fingerprint(llm, tmp_path, seed=1)
    with torch.no_grad():
        llm.model.norm.weight[0] = float("nan")
    with pytest.raises(UserError, match="not the same weights"):
        check_fingerprint(llm, tmp_path)


def test_a_model_without_a_fingerprint_is_refused(llm, tmp_path):
    with pytest.raises(UserError, match="no fingerprint"):
        check_fingerprint(llm, tmp_path)
    (tmp_path / "fingerprint.json").write_text("{}")
    with pytest.raises(UserError, match="no fingerprint"):
        check_fingerprint(llm, tmp_path)


def test_another_stored_loss_is_refused(llm, tmp_path):
    write_fingerprint(llm, tmp_path, seed=1)
    stored = read_json(tmp_path / "fingerprint.json")
    for change, refused in ((5e-4, False), (2e-3, True)):
        write_json(tmp_path / "fingerprint.json", {**stored, "loss": stored["loss"] + change})
        with pytest.raises(UserError, match="not the same weights") if refused else nullcontext():
            check_fingerprint(llm, tmp_path)


def test_another_vocabulary_is_refused(llm, tmp_path):
    write_fingerprint(llm, tmp_path, seed=1)
    llm.resize_token_embeddings(100)
    with pytest.raises(UserError, match="not the same weights"):
        check_fingerprint(llm, tmp_path)


@pytest.fixture
def saved(base, tmp_path):
    """A model directory as a stage leaves it."""
    save(assemble(base, seed=1), base, tmp_path / "model", seed=2)
    return tmp_path / "model"


SAVED = (
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "processor_config.json", "config.json"),
    *("model.safetensors", "generation_config.json"),
)


@pytest.mark.parametrize("name", SAVED)
def test_a_file_exchanged_for_another_is_named(saved, name):
    check_files(saved)
    path = saved / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UserError, match=f"{re.escape(str(path))}: not the file that the model was saved with"):
        check_files(saved)
    path.unlink()
    with pytest.raises(UserError, match=f"{re.escape(str(path))}: missing"):
        check_files(saved)


def test_a_file_that_loading_would_read_besides_is_named(saved):
    for name in ("README.md", "notes.md", ".cache/tokenizer.json", "picture.jpg"):  # these it would not
        (saved / name).parent.mkdir(exist_ok=True)
        (saved / name).write_text("of no use")
    check_files(saved)
    (saved / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"adapter_config\.json: the model was saved without it"):
        check_files(saved)


def test_a_directory_by_somebody_else_has_nothing_to_be_held_against(saved):
    (saved / "fingerprint.json").unlink()
    (saved / "tokenizer.json").unlink()
    check_files(saved)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}', '{"files": ["a"]}', "[" * 5000])
def test_a_damaged_fingerprint_is_one_line(saved, content):
    (saved / "fingerprint.json").write_text(content)
    with pytest.raises(UserError, match=r"fingerprint\.json: damaged") as caught:
        check_files(saved)
    assert "\n" not in str(caught.value)


def test_the_same_model_gives_the_same_fingerprint_wherever_it_lies(saved, tmp_path):
    again = shutil.copytree(saved, tmp_path / "elsewhere")
    assert saved_files(again) == saved_files(saved)
    check_files(again)


@pytest.mark.parametrize(
    "ids",
    [
        [],
        [[]],
        [1, 2],
        [[0.5, 1]],
        [["a"]],
        [[-1, 2]],
        [[1, 2], [3]],
        [[True, False]],
        [[10**400, 1]],
        [[1] * 5000],
        [[1, 2]] * 5000,
    ],
)
def test_a_fingerprint_without_a_batch_is_one_line(llm, tmp_path, ids):
    write_fingerprint(llm, tmp_path, seed=1)
    stored = read_json(tmp_path / "fingerprint.json")
    write_json(tmp_path / "fingerprint.json", {**stored, "ids": ids})
    with pytest.raises(UserError, match="no fingerprint of the model there"):
        check_fingerprint(llm, tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"loss": 10**400}, {"loss": "x"}, {"loss": None}, {"losses": [[10**400]]}, {"losses": [["x"]]}, {"losses": 3},
     {"losses": [[True]]}, {"losses": None}],
)  # fmt: skip
def test_a_fingerprint_of_other_values_is_one_line(llm, tmp_path, change):
    write_fingerprint(llm, tmp_path, seed=1)
    stored = read_json(tmp_path / "fingerprint.json")
    write_json(tmp_path / "fingerprint.json", {**stored, **change})
    with pytest.raises(UserError, match="no fingerprint of the model there") as caught:
        check_fingerprint(llm, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_batch_of_true_and_false_is_one_line(llm, tmp_path):
    write_fingerprint(llm, tmp_path, seed=1)
    stored = read_json(tmp_path / "fingerprint.json")
    ids = [[True] * len(row) for row in stored["ids"]]
    write_json(tmp_path / "fingerprint.json", {**stored, "ids": ids})
    with pytest.raises(UserError, match="its batch has no shape"):
        check_fingerprint(llm, tmp_path)


def test_a_fingerprint_nested_without_end_is_one_line(llm, tmp_path):
    (tmp_path / "fingerprint.json").write_text("[" * 5000)
    with pytest.raises(UserError, match="no fingerprint of the model there"):
        check_fingerprint(llm, tmp_path)
