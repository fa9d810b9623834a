"""The plan of an epoch, and the tensors of a batch."""

import numpy as np
import pytest
import torch

from minivlm.data.batches import Batches, collate, plan_batches
from minivlm.data.pictures import Preparation, decode
from minivlm.data.store import TokenStore
from minivlm.errors import UserError
from tests.unit.data.toys import IMAGE_TOKENS, SIDE

CLIP = Preparation(SIDE, SIDE)

LENGTHS = np.random.default_rng(0).gamma(8, 12, 20_000).astype(np.int64).clip(40, 320)


def test_every_row_is_in_one_batch_within_the_budget():
    for epoch in range(2):
        plan = plan_batches(LENGTHS, 4096, seed=1, epoch=epoch)
        assert sorted(np.concatenate(plan).tolist()) == list(range(len(LENGTHS)))
        assert all(len(rows) * LENGTHS[rows].max() <= 4096 for rows in plan)


@pytest.mark.parametrize("budget", [2048, 4096, 16384])
def test_little_is_padded(budget):
    plan = plan_batches(LENGTHS, budget, seed=1, epoch=0)
    padded = sum(len(rows) * int(LENGTHS[rows].max()) for rows in plan)
    assert 1 - LENGTHS.sum() / padded < 0.05
    assert len(plan) < 1.1 * LENGTHS.sum() / budget + 1  # batches are full


def test_the_plan_follows_from_seed_and_epoch():
    def plan(seed, epoch):
        return [rows.tolist() for rows in plan_batches(LENGTHS[:500], 2048, seed, epoch)]

    assert plan(1, 0) == plan(1, 0)
    assert plan(1, 0) != plan(1, 1) != plan(2, 0) != plan(1, 0)


def test_batches_come_in_no_order_of_length_and_rows_change_company():
    first, second = (plan_batches(LENGTHS, 4096, seed=1, epoch=epoch) for epoch in (0, 1))
    longest = np.array([LENGTHS[rows].max() for rows in first])
    assert abs(np.corrcoef(longest[:-1], longest[1:])[0, 1]) < 0.2
    together = {frozenset(rows.tolist()) for rows in first} & {frozenset(rows.tolist()) for rows in second}
    assert len(together) < 0.01 * len(first)


def test_a_row_beyond_the_budget_says_what_to_raise():
    with pytest.raises(UserError, match=r"321 tokens .* batch_tokens = 320; raise batch_tokens"):
        plan_batches(np.array([3, 321]), 320, seed=0, epoch=0)
    assert plan_batches(np.array([320]), 320, seed=0, epoch=0)[0].tolist() == [0]


def test_no_rows_make_no_batches():
    assert plan_batches(np.array([], dtype=np.int64), 320, seed=0, epoch=0) == []


def batch_of(tokens, pictures, rows):
    return collate(rows, tokens, pictures, CLIP, tokens.image_token_id)


def test_a_batch_holds_the_rows_padded_on_the_right(tokens, pictures):
    rows = [4, 0, 59, 58]
    batch = batch_of(tokens, pictures, rows)
    assert batch.input_ids.shape == (4, max(tokens.lengths[rows])) and batch.input_ids.dtype == torch.int64
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
    assert found == expected and batch.count == len(expected) == tokens.supervised[rows].sum()


def test_each_distinct_picture_is_decoded_once_and_fills_its_own_places(tokens, pictures):
    rows = [4, 3, 59, 57, 58]  # 57 shows picture 3, 58 picture 4, 59 none
    batch = batch_of(tokens, pictures, rows)
    assert batch.pixels.dtype == torch.uint8 and batch.pixels.shape == (2, 3, SIDE, SIDE)
    shown = [batch.pixels[i].numpy() for i in batch.picture_index]
    wanted = [decode(pictures.bytes(i), SIDE) for i in (4, 3, 3, 4)]
    assert all(np.array_equal(*pair) for pair in zip(shown, wanted, strict=True))
    assert (batch.input_ids == tokens.image_token_id).sum() == len(batch.picture_index) * IMAGE_TOKENS


def test_a_batch_of_text_alone_has_no_pixels(tokens, pictures):
    batch = batch_of(tokens, pictures, [59])
    assert batch.pixels.shape == (0, 3, SIDE, SIDE) and batch.picture_index.shape == (0,) and batch.count > 0


def test_tokens_of_another_model_are_refused(tokens, pictures):
    with pytest.raises(UserError, match="another model"):
        collate([0], tokens, pictures, CLIP, image_token_id=tokens.image_token_id + 1)


def test_moving_a_batch_keeps_its_counts(tokens, pictures):
    batch = batch_of(tokens, pictures, [1, 2])
    moved = batch.to("meta")
    assert moved.pixels.device.type == moved.targets.device.type == "meta"
    assert (moved.samples, moved.tokens, moved.count) == (batch.samples, batch.tokens, batch.count)


def loaded(tokens, pictures, workers, plan=None):
    plan = plan or plan_batches(tokens.lengths, 512, seed=3, epoch=0)
    batches = Batches(
        plan, tokens, pictures, preparation=CLIP, image_token_id=tokens.image_token_id, workers=workers
    )
    return len(batches), list(batches)


def bytes_of(batches):
    names = ("input_ids", "pixels", "picture_index", "supervised", "targets")
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
    batch = collate([0, 1], TokenStore(tmp_path / "store"), pictures, CLIP, 3)
    assert batch.supervised.tolist() == [1, 4] and batch.targets.tolist() == [7, 7]


@pytest.mark.slow
def test_workers_make_the_same_batches(tokens, pictures):
    assert bytes_of(loaded(tokens, pictures, 2)[1]) == bytes_of(loaded(tokens, pictures, 0)[1])


@pytest.mark.slow
def test_an_error_in_a_worker_stays_one_line(tokens, pictures):
    batches = Batches([np.array([0])], tokens, pictures, preparation=CLIP, image_token_id=9, workers=1)
    with pytest.raises(UserError) as caught:
        list(batches)
    assert "another model" in str(caught.value) and "\n" not in str(caught.value)


def test_a_picture_that_cannot_be_decoded_is_named(tokens, pictures, monkeypatch):
    monkeypatch.setattr(type(pictures), "bytes", lambda self, i: b"no picture")
    with pytest.raises(UserError, match="picture 1 cannot be decoded"):
        batch_of(tokens, pictures, [1])
