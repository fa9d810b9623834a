"""Imported checkpoints of other sizes than the recorded ones, against the forward pass written anew.

That pass is held against the original's recorded outputs in test_minimind_parity.py.
"""

import pytest
import torch
from typer.testing import CliRunner

from minivlm.cli.main import app
from minivlm.model.minimind import export_checkpoint
from tests.numeric.original import Variant, original_logits, random_state, write_variant

IMAGE_ID = 34


def run_import(source, out):
    """The command, as somebody types it."""
    arguments = ["import-checkpoint", source / "checkpoint.pth", "--vision", source / "clip", "--tokenizer",
                 source / "tokenizer", "--config", source / "config.json", "--out", out]  # fmt: skip
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output


VARIANTS = {
    "theta, eps, other heads": Variant(),
    "one group, wide heads": Variant(heads=2, kv=1, size=32, theta=1e6, eps=1e-5, seed=1),
    "as many key-value heads as heads": Variant(heads=6, kv=6, size=8, layers=3, seed=2),
    "without projector bias": Variant(bias=False, seed=3),
    "another activation": Variant(act="gelu", seed=4),
    "the older generation": Variant(older=True, seed=5),
    "the older generation, wide heads": Variant(older=True, heads=2, kv=1, size=40, theta=1e4, seed=6),
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_random_checkpoints_of_other_sizes(variant, tmp_path):
    """Rows with two pictures, three and none, padded on the left, in one batch."""
    from transformers import AutoModelForImageTextToText

    write_variant(tmp_path, variant)
    run_import(tmp_path, tmp_path / "model")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model").eval()
    generator = torch.Generator().manual_seed(variant.seed)
    rows, most, patches = (2, 3, 0), 3, 4
    ids = torch.zeros(len(rows), 60, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, pictures in enumerate(rows):
        tokens = []
        for _ in range(pictures):
            tokens += torch.randint(40, 250, (5,), generator=generator).tolist() + [IMAGE_ID] * patches
        tokens += torch.randint(40, 250, (9 + row,), generator=generator).tolist()
        ids[row, -len(tokens) :], mask[row, -len(tokens) :] = torch.tensor(tokens), 1
    pixels = torch.randn(len(rows), most, 3, 16, 16, generator=generator)
    with torch.no_grad():
        features = model.model.vision_tower(pixels.flatten(0, 1)).last_hidden_state[:, 1:].unflatten(0, (3, most))
        used = torch.cat([pixels[row, :pictures] for row, pictures in enumerate(rows)])
        logits = model(input_ids=ids, pixel_values=used, attention_mask=mask).logits
    state = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    expected = original_logits(state, variant.config, ids, features, mask=mask, older=variant.older)
    assert (logits - expected)[mask.bool()].abs().max() <= 1e-4
    assert expected[mask.bool()].std() > 1, "weights so small would hide an error"


def test_the_older_generation_comes_back_in_the_newer_one_s_names(tmp_path):
    """Exported, its rotation is that of halves; the logits are the same."""
    variant = Variant(older=True, seed=7)
    write_variant(tmp_path, variant)
    run_import(tmp_path, tmp_path / "model")
    export_checkpoint(tmp_path / "model", tmp_path / "back.pth")
    ids = torch.randint(40, 250, (2, 20), generator=torch.Generator().manual_seed(0))
    before = original_logits(random_state(variant, 24), variant.config, ids, older=True)
    after = original_logits(torch.load(tmp_path / "back.pth", weights_only=True), variant.config, ids)
    assert (before - after).abs().max() <= 1e-9
