"""The loss behind the image gap, held against transformers' own."""

import json

import pytest

from minivlm.data.encoding import ChatEncoder
from minivlm.evaluation.heldout import Row
from minivlm.evaluation.row_loss import RowLoss, encode
from minivlm.files import read_json, write_json
from minivlm.generation.loading import load_model
from minivlm.paths import project_root
from tests.unit.evaluation.toys import conversation, picture

PICTURES = [picture(i) for i in range(3)]
ROWS = [
    Row(0, json.loads(conversation("请用一句话描述这张图片。", "两只红色的帆船。")), 0),
    Row(1, json.loads(conversation("有几只？", "三朵。", "什么颜色？", "黄花在草地上。")), 1),
    Row(2, json.loads(conversation("请详细描述这张图片。", "夕阳下的大海上有两只红色的帆船。")), 2),
]


def test_answers_and_what_ends_them_are_supervised_and_nothing_else(llava):
    _, processor = llava
    ids, supervised = encode(ChatEncoder.of(processor), ROWS[1].turns, 16)
    text = processor.tokenizer.decode([i for i, mask in zip(ids, supervised, strict=True) if mask])
    assert text == "三朵。<|im_end|>\n黄花在草地上。<|im_end|>\n"
    assert ids.count(processor.image_token_id) == 16


def test_special_tokens_that_somebody_typed_stay_text(llava):
    _, processor = llava
    turns = json.loads(conversation("为什么有 <|im_end|>？", "不知道。"))
    ids, supervised = encode(ChatEncoder.of(processor), turns, 16)
    assert ids.count(processor.tokenizer.eos_token_id) == 2
    assert processor.tokenizer.decode(ids).count("<|im_end|>") == 3
    assert sum(supervised) == sum(
        encode(ChatEncoder.of(processor), json.loads(conversation("?", "不知道。")), 16)[1]
    )


def test_tokens_are_those_of_the_processor(llava):
    _, processor = llava
    message = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "请用一句话描述这张图片。"}]}
    ]
    message.append({"role": "assistant", "content": [{"type": "text", "text": "两只红色的帆船。"}]})
    whole = processor(images=[PICTURES[0]], text=processor.apply_chat_template(message, tokenize=False))
    assert encode(ChatEncoder.of(processor), ROWS[0].turns, 16)[0] == whole["input_ids"][0]


@pytest.mark.parametrize("seen", [[0, 1, 2], [1, 2, 0], [2, 2, 2]])
def test_the_loss_is_transformers_loss_of_the_same_rows(llava, seen):
    import torch

    model, processor = llava
    expected = 0.0
    for row, i in zip(ROWS, seen, strict=True):
        ids, supervised = encode(ChatEncoder.of(processor), row.turns, 16)
        labels = torch.tensor([ids]).masked_fill(~torch.tensor([supervised]), -100)
        pixels = processor.image_processor(images=[PICTURES[i]], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            loss = model(input_ids=torch.tensor([ids]), pixel_values=pixels, labels=labels).loss
        expected += float(loss) * sum(supervised)
    nats, tokens = RowLoss(model, processor, PICTURES, batch_size=2)(ROWS, seen)
    assert nats == pytest.approx(expected, rel=1e-4)
    assert tokens == sum(sum(encode(ChatEncoder.of(processor), row.turns, 16)[1]) for row in ROWS)


def test_bf16_gives_nearly_the_same_loss(llava, llava_directory):
    half = RowLoss(*load_model(llava_directory, "cpu", "bf16"), PICTURES, batch_size=2)(ROWS, [0, 1, 2])
    full = RowLoss(*llava, PICTURES, batch_size=2)(ROWS, [0, 1, 2])
    assert half[1] == full[1]
    assert half[0] != full[0], "computed in another precision"
    assert half[0] == pytest.approx(full[0], rel=0.05)


def test_another_picture_changes_the_loss(llava):
    loss = RowLoss(*llava, PICTURES, batch_size=8)
    assert abs(loss(ROWS, [0, 1, 2])[0] - loss(ROWS, [1, 2, 0])[0]) > 0.01


def test_transparency_is_dropped_as_it_is_for_captions_and_training(llava):
    """transformers would lay a transparent picture on white."""
    clear = [picture.convert("RGBA") for picture in PICTURES]
    for each in clear:
        each.putalpha(40)
    seen = RowLoss(*llava, clear, batch_size=2)(ROWS, [0, 1, 2])
    assert seen == RowLoss(*llava, PICTURES, batch_size=2)(ROWS, [0, 1, 2])


PARITY = project_root().parent / "shared" / "parity"


@pytest.mark.skipif(not PARITY.is_dir(), reason="the original's checkpoints (../shared/parity) are not here")
@pytest.mark.parametrize("commit", ["a857219", "a157b66"])
def test_an_imported_model_s_rows_begin_with_its_own_prompt_and_a_typed_picture_token_stays_text(commit, tmp_path):
    """Its picture token is '@', which anybody types: encoding and template write the same in its place."""
    from minivlm.model.minimind import import_checkpoint

    golden = PARITY / commit
    config = tmp_path / "config.json"
    write_json(config, read_json(golden / "meta.json")["upstream_config"])
    import_checkpoint(
        golden / "pretrain_vlm_64.pth", golden / "clip_vision", golden / "tokenizer", tmp_path / "m", config=config
    )
    model, processor = load_model(tmp_path / "m")
    parts = [{"type": "image"}, {"type": "text", "text": "a@b.c @@?"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    expected = processor(images=[PICTURES[0]], text=[prompt])["input_ids"][0]
    turns = [{"role": "user", "content": "<image>\na@b.c @@?"}, {"role": "assistant", "content": "d@e"}]
    count = model.config.image_seq_length
    ids, supervised = encode(ChatEncoder.of(processor), turns, count)
    assert ids[: len(expected)] == expected and not any(supervised[: len(expected)])
    assert ids.count(model.config.image_token_id) == count
    nats, tokens = RowLoss(model, processor, PICTURES, batch_size=2)([Row(0, turns, 0)], [0])
    assert nats > 0 and tokens == sum(supervised)
