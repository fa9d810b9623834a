"""The loss mask against the original's own, for rows of its data set class cut at three lengths."""

import json

import numpy as np
import pytest

from minivlm.data.chat import IMAGE_TOKEN
from minivlm.data.encoding import ChatEncoder
from minivlm.data.foreign_template import adapt
from minivlm.data.special_tokens import SpecialTokens
from minivlm.data.tokenizer_files import read_template
from minivlm.paths import project_root
from tests.original_mask import original_mask

PARITY = project_root().parent / "shared" / "parity"
FOLDERS = sorted(PARITY.glob("labels_*"))


@pytest.mark.skipif(not FOLDERS, reason="the original's labels (../shared/parity) are not here")
@pytest.mark.parametrize("length", [640, 320, 150])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_reference_is_the_originals(folder, length):
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    (end_id,) = meta["eos_id"]
    with np.load(folder / "labels.npz") as labels:
        inputs, targets, expected = (labels[f"{name}_{length}"] for name in "XYM")
    assert len(inputs) == 10
    for row in range(len(inputs)):
        ids = np.append(inputs[row, :1], targets[row])
        # The original's mask belongs to the targets, which begin with the second token.
        found = original_mask(ids.tolist(), meta["bos_id"], end_id)
        assert not found[0]
        np.testing.assert_array_equal(found[1:], expected[row].astype(bool), err_msg=f"row {row}")


@pytest.mark.skipif(not FOLDERS, reason="the original's rows (../shared/parity) are not here")
@pytest.mark.parametrize("length", [640, 320, 150])
@pytest.mark.parametrize("template", ["own", "the original's"])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_mask_of_encoding_is_the_originals_on_its_own_rows(folder, template, length, tmp_path):
    """Production knows where the template puts answers, the original searches the ids; cut rows too."""
    source = PARITY / folder.name.removeprefix("labels_") / "tokenizer"
    tokens = SpecialTokens((source / "tokenizer.json").read_text(encoding="utf-8"), 6400, "the original's")
    tokens.require_image(IMAGE_TOKEN)
    (tmp_path / "tokenizer.json").write_text(tokens.content(), encoding="utf-8")
    if template != "own":
        own = read_template(source)
        if own is None:
            pytest.skip("this commit's tokenizer has no template")
        (tmp_path / "chat_template.jinja").write_text(adapt(own, "the original's", {}), encoding="utf-8")
    encoder = ChatEncoder(tmp_path)
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    rows = encoder.encode_rows([json.loads(line)["conversations"] for line in lines], image_tokens=40)
    assert len(rows) == 10
    header = [encoder.id_of("<|im_start|>"), *encoder.encode_plain(["assistant"], framed=False)[0].tolist()]
    supervised = 0
    for ids, mask in rows:
        expected = original_mask(ids[:length].tolist(), header, encoder.end_token_id)
        np.testing.assert_array_equal(mask[:length], expected)
        supervised += sum(expected)
    assert supervised > 0
