"""The tensors of a batch, and what a worker process makes of them."""

import time
import weakref

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from minivlm.data.batch_plan import IGNORED, padded_count, padded_length, plan_batches
from minivlm.data.batches import Batches, collate, loader_advice
from minivlm.data.pictures import Preparation, decode, prepared
from minivlm.data.pixels import PixelReader
from minivlm.data.store import TokenStore
from minivlm.errors import UserError
from tests.unit.data.toys import IMAGE_TOKENS, SIDE

CLIP = Preparation(SIDE, SIDE)


def batch_of(tokens, pictures, rows):
    return collate(rows, tokens, PixelReader(pictures, CLIP), tokens.image_token_id)


def test_a_batch_holds_the_rows_padded_on_the_right(tokens, pictures):
    rows = [4, 0, 59, 58]
    batch = batch_of(tokens, pictures, rows)
    assert batch.input_ids.shape == (4, padded_length(max(tokens.lengths[rows])))
    assert batch.input_ids.dtype == torch.int64
    for row, ids in zip(rows, batch.input_ids, strict=True):
        assert ids[: tokens.lengths[row]].tolist() == tokens.tokens(row).tolist()
        assert not ids[tokens.lengths[row] :].any()
    assert batch.samples == 4 and batch.tokens == tokens.lengths[rows].sum()
    assert batch.padded_tokens == batch.input_ids.numel() > batch.tokens


def test_supervised_positions_predict_the_next_token(tokens, pictures):
    rows = [4, 0, 59, 57]
    batch = batch_of(tokens, pictures, rows)
    expected = [
        (i, t - 1, int(tokens.tokens(row)[t]))
        for i, row in enumerate(rows)
        for t in np.flatnonzero(tokens.mask(row))
    ]
    width = batch.input_ids.shape[1]
    found = [
        (p // width, p % width, target)
        for p, target in zip(batch.supervised.tolist(), batch.targets.tolist(), strict=True)
    ]
    assert batch.count == len(expected) == tokens.supervised[rows].sum()
    assert found[: batch.count] == expected
    assert batch.logit_positions == len(found) == padded_count(batch.count) > batch.count
    assert set(found[batch.count :]) == {(0, 0, IGNORED)}


def test_positions_added_for_a_round_number_change_neither_loss_nor_gradient(tokens, pictures):
    batch = batch_of(tokens, pictures, [4, 0, 59, 57])
    hidden = torch.randn(batch.padded_tokens, 8, requires_grad=True)
    head = torch.randn(8, 512, requires_grad=True)

    def gradients(count):
        logits = hidden.index_select(0, batch.supervised[:count]) @ head
        loss = torch.nn.functional.cross_entropy(logits, batch.targets[:count], reduction="sum")
        return loss, *torch.autograd.grad(loss, (hidden, head))

    for padded, plain in zip(gradients(batch.logit_positions), gradients(batch.count), strict=True):
        torch.testing.assert_close(padded, plain, rtol=1e-6, atol=1e-6)


def test_a_row_is_not_padded_beyond_the_budget(tokens, pictures):
    [row] = np.flatnonzero(tokens.lengths % 8)[:1]
    length = int(tokens.lengths[row])
    assert batch_of(tokens, pictures, [row]).input_ids.shape[1] > length
    batch = collate([row], tokens, PixelReader(pictures, CLIP), tokens.image_token_id, batch_tokens=length)
    assert batch.padded_tokens == batch.tokens == length


def test_each_distinct_picture_is_decoded_once_and_fills_its_own_places(tokens, pictures):
    rows = [4, 3, 59, 57, 58]  # 57 shows picture 3, 58 picture 4, 59 none
    batch = batch_of(tokens, pictures, rows)
    assert batch.pixels.dtype == torch.uint8 and batch.pixels.shape == (2, 3, SIDE, SIDE)
    shown = [batch.pixels[i].numpy() for i in batch.picture_index]
    wanted = [decode(pictures.bytes(i), SIDE) for i in (4, 3, 3, 4)]
    assert all(np.array_equal(*pair) for pair in zip(shown, wanted, strict=True))
    assert len(batch.image_places) == len(batch.picture_index) * IMAGE_TOKENS
    assert torch.equal(batch.image_places, (batch.input_ids == tokens.image_token_id).flatten().nonzero()[:, 0])


def test_a_batch_of_text_alone_has_no_pixels(tokens, pictures):
    batch = batch_of(tokens, pictures, [59])
    assert batch.pixels.shape == (0, 3, SIDE, SIDE) and batch.picture_index.shape == (0,) and batch.count > 0
    assert batch.image_places.shape == (0,) and batch.image_places.dtype == torch.int64


def test_tokens_of_another_model_are_refused(tokens, pictures):
    with pytest.raises(UserError, match="another model"):
        collate([0], tokens, PixelReader(pictures, CLIP), image_token_id=tokens.image_token_id + 1)


def test_moving_a_batch_keeps_its_counts(tokens, pictures):
    batch = batch_of(tokens, pictures, [1, 2])
    moved = batch.to("meta")
    assert moved.pixels.device.type == moved.targets.device.type == "meta"
    assert (moved.samples, moved.tokens, moved.count) == (batch.samples, batch.tokens, batch.count)


def loaded(tokens, pictures, workers, plan=None):
    plan = plan_batches(tokens.lengths, 512, seed=3, epoch=0) if plan is None else plan
    batches = Batches(
        plan, tokens, pictures, preparation=CLIP, image_token_id=tokens.image_token_id, workers=workers
    )
    return len(batches), list(batches)


def bytes_of(batches):
    names = ("input_ids", "pixels", "picture_index", "image_places", "supervised", "targets")
    return [(b.tokens, *(getattr(b, name).numpy().tobytes() for name in names)) for b in batches]


def test_batches_come_in_the_order_of_the_plan_and_leave_the_random_state_alone(tokens, pictures):
    plan = plan_batches(tokens.lengths, 512, seed=3, epoch=0)
    state = torch.get_rng_state()
    count, batches = loaded(tokens, pictures, 0)
    assert torch.equal(state, torch.get_rng_state())
    assert count == len(batches) == len(plan)
    assert bytes_of(batches) == bytes_of([batch_of(tokens, pictures, rows) for rows in plan])
    assert bytes_of(loaded(tokens, pictures, 0, plan[2:])[1]) == bytes_of(batches)[2:]


def test_a_first_token_is_nobodys_next_token(tmp_path, pictures):
    from minivlm.data.store_writer import TokenWriter

    writer = TokenWriter(tmp_path / "store", "uint16")
    for row in range(2):
        writer.add(row, np.array([5, 6, 7]), np.array([True, False, True]), [])
    writer.close(np.zeros(2, dtype=bool), {"pad_token_id": 0, "image_token_id": 3, "image_tokens": 4})
    batch = collate([0, 1], TokenStore(tmp_path / "store"), PixelReader(pictures, CLIP), 3)
    assert batch.count == 2 and batch.targets[:2].tolist() == [7, 7]
    assert batch.supervised[:2].tolist() == [1, batch.input_ids.shape[1] + 1]


@pytest.mark.slow
def test_workers_make_the_same_batches(tokens, pictures):
    assert bytes_of(loaded(tokens, pictures, 2)[1]) == bytes_of(loaded(tokens, pictures, 0)[1])


@pytest.mark.slow
def test_an_error_in_a_worker_stays_one_line(tokens, pictures):
    batches = Batches([np.array([0])], tokens, pictures, preparation=CLIP, image_token_id=9, workers=1)
    with pytest.raises(UserError) as caught:
        list(batches)
    assert "another model" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_worker_killed_while_a_batch_is_computed_with_is_one_line(tokens, pictures):
    plan = [np.array([0])] * 40
    with pytest.raises(UserError, match=r"killed by signal.*lower runtime\.workers") as caught, loader_advice():
        for _ in Batches(
            plan, tokens, pictures, preparation=CLIP, image_token_id=tokens.image_token_id, workers=1
        ):
            for worker in psutil.Process().children():
                if "spawn_main" in " ".join(worker.cmdline()):
                    worker.kill()
            until = time.monotonic() + 20
            while (
                time.monotonic() < until
            ):  # a step: torch tells of it here, not where the next batch is asked for
                pass
    assert "\n" not in str(caught.value)


def test_an_error_of_another_kind_is_not_taken_for_a_killed_worker():
    with pytest.raises(RuntimeError, match="shapes"), loader_advice():
        raise RuntimeError("shapes do not match")


def test_a_picture_that_cannot_be_decoded_is_named(tokens, pictures, monkeypatch):
    monkeypatch.setattr(type(pictures), "bytes", lambda self, i: b"no picture")
    with pytest.raises(UserError, match="picture 1 cannot be decoded"):
        batch_of(tokens, pictures, [1])


def test_small_pictures_of_one_size_are_left_to_the_device_and_others_are_not(tokens, pictures):
    from minivlm.model.resize import resize, resizer

    large = Preparation(2 * SIDE, 2 * SIDE)
    ids = np.arange(4)
    here = PixelReader(pictures, large).read(ids)
    left = PixelReader(pictures, large, resizer(large)).read(ids)
    assert here.shape == (4, 3, 2 * SIDE, 2 * SIDE) and left.nbytes < here.nbytes
    assert np.array_equal(resize(torch.from_numpy(left), *large).numpy(), here)
    never = PixelReader(pictures, large, lambda height, width: False)
    assert np.array_equal(never.read(ids), here)


@pytest.mark.parametrize("left", [None, lambda height, width: True])
@pytest.mark.parametrize(("sizes", "most"), [([(64, 48)] * 20, 1), ([(8, 8)] * 3 + [(64, 48)] * 20, 4)])
def test_large_pictures_are_held_one_at_a_time(pictures, monkeypatch, left, sizes, most):
    """A batch of photographs of 12 megapixels would else take gigabytes in each worker."""
    made, alive, found = [], weakref.WeakValueDictionary(), []
    random = np.random.default_rng(0)

    def read(data):
        found.append(len(alive))
        width, height = sizes[len(made)]
        made.append(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        image = Image.fromarray(made[-1])
        alive[len(made)] = image
        return image

    monkeypatch.setattr("minivlm.data.pixels.read_upright", read)
    small = Preparation(16, 16)
    pixels = PixelReader(pictures, small, left).read(np.zeros(len(sizes), int))
    assert max(found) < most if left else max(found) == 0
    for place, array in zip(pixels, made, strict=True):
        np.testing.assert_array_equal(place, prepared(Image.fromarray(array), small))
