"""The tower's objective against its formula, and the training of a tower on pictures of one colour each."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import CLIPImageProcessorPil, CLIPVisionModel

from minivlm.data.pairs import Pairs
from minivlm.data.pictures import decode
from minivlm.model.checkpoint import load_strictly
from minivlm.model.clip import make_clip
from minivlm.training.contrastive import LUMA, MAX_LOGIT_SCALE, PairBatch, TowerLoss
from minivlm.training.tower import IMAGE_MEAN, IMAGE_STD, _batches, train_tower
from tests.unit.data.toys import tree

SIDE = 16
SHAPE = dict(
    image_size=SIDE, patch_size=8, hidden_size=16, layers=2, text_layers=1, heads=2, intermediate_size=32,
    projection_size=8,
)  # fmt: skip
FREQUENCY = [0.5, 0.3, 0.2, 0.1, 0.05]  # of the phrases
HELD = [[0, 3], [], [1, 2, 4]]  # by the three captions of a batch
START, END, LENGTH = 1, 2, 12  # LENGTH: positions of the text tower
OPTIMIZATION = dict(
    learning_rate=1e-2, min_learning_rate_ratio=0.1, warmup_ratio=0.1, weight_decay=0.01, max_grad_norm=1.0,
    precision="fp32", device="cpu", validations=1, log_steps=1, on_log=lambda step, metrics: None,
    price_per_hour=None,
)  # fmt: skip


def objective(phrase_weight=2.0, grayscale=0.0):
    torch.manual_seed(3)
    clip = make_clip(**SHAPE, vocabulary=30, text_length=LENGTH, pad_token_id=0)
    return TowerLoss(clip, torch.tensor(FREQUENCY), phrase_weight, grayscale, IMAGE_MEAN, IMAGE_STD)


def batch(lengths=(4, 7, 5), pad_to=0):
    """Random pictures and captions of these lengths, start and end tokens included."""
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.zeros(len(lengths), max(pad_to, *lengths), dtype=torch.int64)
    for i, length in enumerate(lengths):
        input_ids[i, :length] = torch.randint(3, 30, (length,), generator=generator)
        input_ids[i, 0], input_ids[i, length - 1] = START, END
    pixels = torch.randint(256, (len(lengths), 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    phrases = torch.tensor([each + [len(FREQUENCY)] * (3 - len(each)) for each in HELD])
    return PairBatch(pixels, input_ids, torch.tensor(lengths), phrases)


def features(loss, pairs):
    """Picture and text features, one row at a time and without padding, by CLIPModel's parts."""
    clip, pictures, texts = loss.clip, [], []
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (IMAGE_MEAN, IMAGE_STD))
    for pixels, ids, length in zip(pairs.pixels, pairs.input_ids, pairs.lengths, strict=True):
        values = (pixels / 255 - mean) / std
        pooled = clip.vision_model(pixel_values=values[None]).pooler_output
        state = clip.text_model(input_ids=ids[None, :length]).last_hidden_state[:, -1]
        pictures.append(clip.visual_projection(pooled)[0])
        texts.append(clip.text_projection(state)[0])
    return (functional.normalize(torch.stack(each), dim=-1) for each in (pictures, texts))


def contrast(loss, pairs, scale):
    pictures, texts = features(loss, pairs)
    total = torch.zeros(())
    for i in range(len(pictures)):
        total -= torch.log_softmax(scale * (pictures[i] @ texts.T), 0)[i] / 2
        total -= torch.log_softmax(scale * (texts[i] @ pictures.T), 0)[i] / 2
    return total


@torch.no_grad()
def test_without_phrases_the_loss_is_the_symmetric_contrast():
    loss = objective(phrase_weight=0)
    expected = contrast(loss, batch(), loss.clip.logit_scale.exp())
    assert loss(batch()).item() == pytest.approx(expected.item(), abs=1e-5)


@torch.no_grad()
def test_similarities_are_scaled_by_a_hundred_at_most():
    loss = objective(phrase_weight=0)
    loss.clip.logit_scale.fill_(9.0)
    expected = contrast(loss, batch(), MAX_LOGIT_SCALE)
    assert loss(batch()).item() == pytest.approx(expected.item(), rel=1e-4)


@torch.no_grad()
def test_phrases_add_their_cross_entropy_for_each_pair():
    loss, pairs = objective(phrase_weight=2.0), batch()
    total = 0.0
    for pixels, held in zip(pairs.pixels, HELD, strict=True):
        patches = loss.clip.vision_model(pixel_values=loss.normalized(pixels[None])).last_hidden_state[:, 1:]
        answers = loss.head.linear(loss.head.norm(patches[0]))  # one patch, one phrase at a time
        joined = [
            math.log(sum(math.exp(a) for a in of_phrase) / len(of_phrase)) for of_phrase in answers.T.tolist()
        ]
        chance = torch.tensor(joined).sigmoid()
        total -= sum((chance[k] if k in held else 1 - chance[k]).log().item() for k in range(len(FREQUENCY)))
    expected = contrast(loss, pairs, loss.clip.logit_scale.exp()).item() + 2.0 * total
    assert loss(pairs).item() == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("phrase_weight", [0.0, 2.0])
def test_more_padding_changes_nothing(phrase_weight):
    loss = objective(phrase_weight)
    assert loss(batch(pad_to=LENGTH)).item() == pytest.approx(loss(batch()).item(), abs=1e-5)


@pytest.mark.parametrize(("phrase_weight", "reached"), [(0.0, False), (2.0, True)])
def test_phrases_alone_train_the_patch_outputs_of_the_last_layer(phrase_weight, reached):
    loss, outputs = objective(phrase_weight), []

    def keep(module, inputs, output):
        hidden_states = output[0] if isinstance(output, tuple) else output
        hidden_states.retain_grad()
        outputs.append(hidden_states)

    loss.clip.vision_model.encoder.layers[-1].register_forward_hook(keep)
    loss(batch()).backward()
    assert outputs[0].grad[:, 0].any()  # the class token, always
    assert bool(outputs[0].grad[:, 1:].any(dim=-1).all()) is reached
    assert bool(outputs[0].grad[:, 1:].any()) is reached
    assert (loss.head.linear.weight.grad is not None) is reached


def test_a_share_of_the_pictures_loses_its_colours():
    torch.manual_seed(0)
    pixels = torch.randint(256, (1000, 3, 2, 2), dtype=torch.uint8)
    loss = objective(grayscale=0.3)
    seen = (loss.some_in_gray(pixels) - loss.shift) / loss.scale
    gray = (seen - seen[:, :1]).abs().flatten(1).amax(dim=1) < 0.01
    assert 0.25 < gray.float().mean() < 0.35
    torch.testing.assert_close(seen[~gray], pixels[~gray].float(), rtol=0, atol=1e-3)
    expected = (pixels[gray] * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1)
    torch.testing.assert_close(seen[gray][:, 0], expected, rtol=0, atol=1e-3)


@torch.no_grad()
def test_colours_are_lost_in_training_alone():
    plain, without = objective(), objective(grayscale=1.0)
    assert without.eval()(batch()).item() == plain.eval()(batch()).item()
    assert without.train()(batch()).item() != plain.train()(batch()).item()


def test_pixels_are_normalised_by_channel():
    pixels = batch().pixels
    expected = (pixels / 255 - torch.tensor(IMAGE_MEAN).view(3, 1, 1)) / torch.tensor(IMAGE_STD).view(3, 1, 1)
    assert torch.allclose(objective().normalized(pixels), expected, atol=1e-5)


def test_a_batch_counts_pairs_and_tokens():
    pairs = batch(pad_to=9)
    assert (pairs.samples, pairs.count, pairs.tokens, pairs.padded_tokens) == (3, 3, 16, 27)


def test_every_epoch_takes_each_row_once_in_an_order_of_its_own():
    rows = np.arange(10, 22)
    taken = [each.tolist() for each in _batches(rows, 4, 6, seed=0)]
    first, second = ([row for each in part for row in each] for part in (taken[:3], taken[3:]))
    assert sorted(first) == sorted(second) == rows.tolist()
    assert first != second
    assert taken == [each.tolist() for each in _batches(rows, 4, 6, seed=0)]
    assert taken != [each.tolist() for each in _batches(rows, 4, 6, seed=1)]


def test_fewer_rows_than_a_batch_still_make_batches():
    assert [sorted(each.tolist()) for each in _batches(np.arange(3), 8, 2, seed=0)] == [[0, 1, 2]] * 2


def plain(colour):
    """A picture of one colour, as a PNG, with noise that no two share."""
    noise = np.random.default_rng(colour).integers(0, 60, (SIDE, SIDE, 3))
    tint = np.array([colour & 1, colour >> 1 & 1, colour >> 2 & 1]) * 180
    stream = io.BytesIO()
    Image.fromarray((noise + tint).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def trained(directory):
    """Train on 96 pairs; the caption says which of the eight colours it is."""
    torch.manual_seed(0)
    pictures = [plain(i) for i in range(96)]
    captions = [np.array([START, 10, 11 + i % 8, *[20] * (i % 2), END]) for i in range(96)]
    pairs = Pairs(pictures, np.arange(96), [""] * 96)
    return train_tower(
        pairs, captions, np.arange(96) >= 88, directory, shape=SHAPE, batch_size=8, phrases=20, phrase_weight=2.0,
        grayscale=0.0,
        epochs=5, vocabulary=30, pad_token_id=0, seed=0, **OPTIMIZATION,
    )  # fmt: skip


def test_a_tower_learns_its_captions_and_transformers_loads_it(tmp_path):
    result = trained(tmp_path / "one")
    assert result.steps == 55
    assert result.train_loss < 0.8 * result.history[0].loss
    assert result.val_loss < 0.8 * result.history[0].loss
    tower = load_strictly(CLIPVisionModel, tmp_path / "one")
    for name, weight in tower.named_parameters():
        assert torch.equal(weight, result.best_state[f"clip.vision_model.{name.removeprefix('vision_model.')}"])
    processor = CLIPImageProcessorPil.from_pretrained(tmp_path / "one")
    picture = Image.open(io.BytesIO(plain(5)))
    values = processor(picture, return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(values, objective().normalized(torch.from_numpy(decode(plain(5), SIDE)))[0], atol=1e-5)


def test_the_same_seed_gives_the_same_tower(tmp_path):
    trained(tmp_path / "one")
    trained(tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
