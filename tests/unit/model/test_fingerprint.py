"""The stored text loss tells other weights from the saved ones."""

import pytest
import torch
from transformers import LlamaForCausalLM

from minivlm.errors import UserError
from minivlm.files import read_json
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


def test_another_weight_is_refused(llm, tmp_path):
    write_fingerprint(llm, tmp_path, seed=1)
    with torch.no_grad():
        llm.model.layers[1].mlp.down_proj.weight.mul_(1.05)
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


def test_another_vocabulary_is_refused(llm, tmp_path):
    write_fingerprint(llm, tmp_path, seed=1)
    llm.resize_token_embeddings(100)
    with pytest.raises(UserError, match="not the same weights"):
        check_fingerprint(llm, tmp_path)
