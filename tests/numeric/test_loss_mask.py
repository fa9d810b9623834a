"""The loss mask against the original's own, for rows of its data set class cut at three lengths."""

import json

import numpy as np
import pytest

from minivlm.data.chat import loss_mask
from minivlm.paths import project_root

PARITY = project_root().parent / "shared" / "parity"
FOLDERS = sorted(PARITY.glob("labels_*"))


@pytest.mark.skipif(not FOLDERS, reason="the original's labels (../shared/parity) are not here")
@pytest.mark.parametrize("length", [640, 320, 150])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_mask_is_the_originals(folder, length):
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    (end_id,) = meta["eos_id"]
    with np.load(folder / "labels.npz") as labels:
        inputs, targets, expected = (labels[f"{name}_{length}"] for name in "XYM")
    assert len(inputs) == 10
    for row in range(len(inputs)):
        ids = np.append(inputs[row, :1], targets[row])
        # The original's mask belongs to the targets, which begin with the second token.
        found = loss_mask(ids, meta["bos_id"], end_id)
        assert not found[0]
        np.testing.assert_array_equal(found[1:], expected[row].astype(bool), err_msg=f"row {row}")
