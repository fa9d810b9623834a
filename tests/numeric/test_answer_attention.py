"""Attention of an answer's tokens to its picture, against transformers' own eager forward pass."""

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from minivlm.generation.attention import answer_attention, seen_region
from minivlm.generation.captions import caption_pictures
from tests.unit.evaluation.toys import SIZE, picture

QUESTION = "请详细描述这张图片。"
ANSWER = "大海上有两只红色的帆船。"


def transformers_own(directory, answer):
    """(L, H, N, P) by transformers alone: a model that is eager from the start, the processor's own ids."""
    model = AutoModelForImageTextToText.from_pretrained(directory, attn_implementation="eager").eval()
    processor = AutoProcessor.from_pretrained(directory)
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}
    prompt = processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
    inputs = processor(text=prompt + answer, images=picture(3), return_tensors="pt")
    ids = inputs["input_ids"][0]
    count = len(processor.tokenizer(answer, add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        attentions = model(**inputs, output_attentions=True).attentions
    image = (ids == model.config.image_token_id).nonzero()[:, 0]
    return torch.stack(attentions)[:, 0, :, len(ids) - count - 1 : len(ids) - 1][..., image]


def test_the_weights_are_those_of_transformers_eager_forward(llava_directory, llava):
    ours = answer_attention(*llava, picture(3), QUESTION, ANSWER)
    expected = transformers_own(llava_directory, ANSWER).mean(dim=1)
    assert ours.weights.shape == expected.shape == (2, len(ours.spans), 16)
    torch.testing.assert_close(ours.weights, expected, rtol=1e-5, atol=1e-7)


def test_a_row_is_a_part_of_one_and_differs_between_tokens(llava):
    weights = answer_attention(*llava, picture(3), QUESTION, ANSWER).weights
    assert (weights > 0).all() and (weights.sum(dim=-1) < 1).all(), "some of the attention goes to the text"
    assert (weights[:, 1:] - weights[:, :-1]).abs().amax(dim=(0, 2)).min() > 0


def test_a_later_part_of_the_answer_changes_nothing_before_it(llava):
    short = answer_attention(*llava, picture(3), QUESTION, ANSWER[:-1])
    long = answer_attention(*llava, picture(3), QUESTION, ANSWER)
    torch.testing.assert_close(long.of(0, 2), short.of(0, 2), rtol=1e-5, atol=1e-7)


def test_a_word_is_the_mean_of_its_tokens_and_spans_cover_the_answer(llava):
    ours = answer_attention(*llava, picture(3), QUESTION, ANSWER)
    assert {c for first, last in ours.spans for c in range(first, last)} == set(range(len(ANSWER)))
    tokens = [n for n, (first, last) in enumerate(ours.spans) if last > 9 and first < 11]
    assert ANSWER[9:11] == "帆船" and tokens
    assert torch.equal(ours.of(9, 11), ours.weights[:, tokens].mean(dim=1))


def test_afterwards_the_model_attends_and_answers_as_before(llava):
    model, processor = llava
    before = model.model.language_model.config._attn_implementation
    said = caption_pictures(model, processor, [picture(3)], QUESTION, batch_size=1, max_new_tokens=8)
    answer_attention(model, processor, picture(3), QUESTION, ANSWER)
    assert before != "eager" and model.model.language_model.config._attn_implementation == before
    assert caption_pictures(model, processor, [picture(3)], QUESTION, batch_size=1, max_new_tokens=8) == said


def test_the_tower_sees_the_middle_square_of_a_wide_picture(llava):
    pictures = llava[1].image_processor
    assert pictures.crop_size["width"] == SIZE
    assert seen_region((48, 48), pictures) == (0, 0, 1, 1)
    assert seen_region((100, 50), pictures) == (0.25, 0, 0.75, 1)
    assert seen_region((50, 200), pictures) == (0, 0.375, 1, 0.625)
