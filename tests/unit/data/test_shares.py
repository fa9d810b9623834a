"""Shares of the pictures: each purpose has its own, and none empties another's."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minivlm.data.pairs import AcceptedRows, Pairs
from minivlm.data.shares import Purpose, is_chosen, place
from minivlm.data.sources import RowSource, convert_rows
from minivlm.data.store import TokenStore
from minivlm.data.tokenization import Source, write_stores
from minivlm.training.base_data import conversations, held_back
from tests.unit.data.toys import IMAGE_TOKENS, captions, write_source

SHARE, PICTURES = 0.2, 600


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """Sources of pretrain, sft and heldout after a fifth of the pictures was held out by `convert_rows`."""
    folder = tmp_path_factory.mktemp("divided")
    named = {
        split: RowSource(write_source(folder, split, captions(PICTURES)).table) for split in ("pretrain", "sft")
    }
    convert_rows(folder / "download", named, heldout_fraction=SHARE)
    sources = {}
    for split in ("pretrain", "sft", "heldout"):
        table, accepted = folder / "download" / f"{split}.parquet", folder / f"{split}-accepted.parquet"
        rows = pq.read_metadata(table).num_rows
        pq.write_table(pa.table({"row": pa.array(range(rows), pa.int64())}), accepted)
        sources[split] = Source(table, accepted)
    return sources


def test_a_share_is_a_threshold_on_four_bytes_of_the_hash_that_no_other_purpose_has():
    digest = bytes(range(32))
    assert [place(digest, purpose) * 2**32 for purpose in Purpose] == [0x00010203, 0x04050607, 0x08090A0B]
    assert not is_chosen(digest, Purpose.HOLDOUT, 0x08090A0B / 2**32)
    assert is_chosen(digest, Purpose.HOLDOUT, 0x08090A0C / 2**32)
    assert is_chosen(b"\xff" * 32, Purpose.VALIDATION, 1.0) and not is_chosen(bytes(32), Purpose.VALIDATION, 0.0)


def about(share, count):
    return pytest.approx(share * count, rel=0.25)


def test_rows_held_out_leave_tokenize_as_many_to_validate_on_as_it_was_asked_for(divided, tmp_path, encoder):
    write_stores(
        divided,
        tmp_path / "tokenize",
        encoder=encoder,
        image_tokens=IMAGE_TOKENS,
        max_length=128,
        validation_fraction=SHARE,
    )
    stores = {split: TokenStore(tmp_path / "tokenize" / split) for split in divided}
    assert len(stores["heldout"]) == about(SHARE, PICTURES)
    for split in ("pretrain", "sft"):
        assert len(stores[split]) + len(stores["heldout"]) == PICTURES
        assert len(stores[split].validation_rows()) == about(SHARE, len(stores[split]))


def test_rows_held_out_leave_base_as_many_to_validate_on_as_it_was_asked_for(divided):
    rows = {split: AcceptedRows(*vars(divided[split]).values()) for split in ("pretrain", "sft")}
    tasks = list(conversations(rows))
    assert held_back(tasks, SHARE).sum() == about(SHARE, len(tasks))
    pairs = Pairs.read(rows["pretrain"])
    assert pairs.held_back(SHARE).sum() == about(SHARE, len(pairs.captions))
