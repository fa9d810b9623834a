"""Reading the stores: at random, from copies, and what a damaged one says."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from minivlm.data.store import PictureStore, TokenStore
from minivlm.data.store_writer import PictureWriter
from minivlm.errors import UserError
from tests.unit.data.toys import IMAGE_TOKENS, picture


def test_rows_have_their_tokens_masks_and_pictures(tokens, pictures, encoder):
    assert len(tokens) == len(tokens.lengths) == len(tokens.row_numbers) == 60
    for i in range(len(tokens)):
        ids, mask = tokens.tokens(i), tokens.mask(i)
        assert len(ids) == len(mask) == tokens.lengths[i] and mask.dtype == bool
        assert mask.sum() == tokens.supervised[i] > 0
        assert np.count_nonzero(ids == tokens.image_token_id) == IMAGE_TOKENS * len(tokens.pictures(i))
    assert [tokens.pictures(i).tolist() for i in (0, 56, 57, 58, 59)] == [[0], [56], [3], [4], []]
    assert len(pictures) == 57 and [pictures.bytes(i) for i in range(57)] == [picture(i) for i in range(57)]


def test_training_and_validation_rows_are_all_rows(tokens):
    both = np.concatenate([tokens.training_rows(), tokens.validation_rows()])
    assert sorted(both) == list(range(60)) and 0 < len(tokens.validation_rows()) < 30


def test_a_pickle_holds_the_path_alone(tokens, pictures):
    for store in (tokens, pictures):
        data = pickle.dumps(store)
        assert len(data) < 1000
        copy = pickle.loads(data)
        assert len(copy) == len(store)
    assert np.array_equal(pickle.loads(pickle.dumps(tokens)).tokens(7), tokens.tokens(7))


def test_a_store_of_many_tokens_uses_wider_numbers(tmp_path):
    from minivlm.data.store_writer import TokenWriter

    for dtype, token in (("uint16", 65_535), ("uint32", 70_000)):
        writer = TokenWriter(tmp_path / dtype, dtype)
        writer.add(0, np.array([1, token]), np.array([False, True]), [])
        writer.close(np.array([False]), {})
        assert TokenStore(tmp_path / dtype).tokens(0).tolist() == [1, token]


def damage(change, name):
    """A change to one file of a store."""

    def apply(folder):
        path = folder / name
        if change == "delete":
            path.unlink()
        elif change == "shorten":
            path.write_bytes(path.read_bytes()[:-1])
        elif change == "garbage":
            path.write_bytes(b"garbage")
        elif change == "swap":
            array = np.load(path)
            array[[1, 2]] = array[[2, 1]]
            np.save(path, array)
        elif change == "type":
            np.save(path, np.load(path).astype(np.float32))
        else:
            path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    return apply


TOKEN_FILES = ["offsets", "rows", "supervised", "validation", "pictures", "picture_offsets"]
TOKEN_DAMAGES = [
    *(("delete", f"{name}.npy") for name in TOKEN_FILES),
    *(("garbage", f"{name}.npy") for name in TOKEN_FILES),
    *(("type", f"{name}.npy") for name in TOKEN_FILES),
    *((change, name) for change in ("delete", "shorten") for name in ("tokens.bin", "mask.bin")),
    *(("swap", name) for name in ("offsets.npy", "picture_offsets.npy")),
    *(("delete", "meta.json"), ("garbage", "meta.json"), ({"format": 99}, "meta.json")),
    *(({"rows": 59}, "meta.json"), ({"kind": "pictures"}, "meta.json")),
]
PICTURE_DAMAGES = [
    *(("delete", name) for name in ("offsets.npy", "hashes.npy", "pictures.bin", "meta.json")),
    *(("shorten", "pictures.bin"), ("swap", "offsets.npy"), ({"pictures": 3}, "meta.json")),
]


@pytest.mark.parametrize(("change", "name"), TOKEN_DAMAGES)
def test_a_damaged_token_store_says_so_in_one_line(written, tmp_path, change, name):
    folder = shutil.copytree(written / "pretrain", tmp_path / "store")
    damage(change, name)(folder)
    with pytest.raises(UserError, match="store") as caught:
        TokenStore(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "name"), PICTURE_DAMAGES)
def test_a_damaged_picture_store_says_so_in_one_line(written, tmp_path, change, name):
    folder = shutil.copytree(written / "pictures", tmp_path / "store")
    damage(change, name)(folder)
    with pytest.raises(UserError, match="store") as caught:
        PictureStore(folder)
    assert "\n" not in str(caught.value)


def test_one_kind_of_store_is_not_the_other(written):
    with pytest.raises(UserError, match="not a tokens store"):
        TokenStore(written / "pictures")
    with pytest.raises(UserError, match="not a pictures store"):
        PictureStore(written / "pretrain")
    with pytest.raises(UserError, match="dvc repro tokenize"):
        TokenStore(written / "absent")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident pages are told by Linux's /proc")
def test_what_was_read_of_a_store_does_not_stay_in_memory(tmp_path):
    writer, megabyte = PictureWriter(tmp_path / "pictures"), 1 << 20
    for number in range(48):
        writer.add(number.to_bytes(4, "big") * (megabyte // 4))
    writer.close()
    store, before = PictureStore(tmp_path / "pictures"), resident()
    assert sum(len(store.bytes(number)) for number in range(48)) == 48 * megabyte
    assert resident() - before < 16 * megabyte


def resident() -> int:
    """Bytes of this process that lie in memory, pages of mapped files among them."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) << 10


def test_a_file_that_becomes_shorter_is_named(tokens, written, tmp_path):
    folder = shutil.copytree(written / "pretrain", tmp_path / "pretrain")
    store = TokenStore(folder)
    os.truncate(folder / "tokens.bin", 4)
    with pytest.raises(UserError, match=r"tokens\.bin: damaged store \(it became shorter"):
        store.tokens(3)
