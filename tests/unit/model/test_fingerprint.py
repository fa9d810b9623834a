"""The stored text loss tells other weights from the saved ones."""

from contextlib import nullcontext

import pytest
import torch
from transformers import LlamaForCausalLM

from minivlm.errors import UserError
from minivlm.files import read_json, write_json
from minivlm.model.fingerprint import check_fingerprint, text_loss, write_fingerprint
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
